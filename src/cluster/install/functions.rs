//! What the templates use of Helm's functions, and JSON as the templates have it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gtmpl::{Func, FuncError, Value};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

pub const ALL: &[(&str, Func)] = &[
    ("b64enc", b64enc),
    ("default", default),
    ("dig", dig),
    ("genSelfSignedCert", gen_self_signed_cert),
    ("indent", indent),
    ("kindIs", kind_is),
    ("list", list),
    ("lookup", lookup),
    ("sha256sum", sha256sum),
    ("toJson", to_json),
    ("toYaml", to_yaml),
];

type Output = Result<Value, FuncError>;

fn b64enc(args: &[Value]) -> Output {
    Ok(BASE64_STANDARD.encode(string(args, 0)?).into())
}

/// The first is what the second is unless it is empty.
fn default(args: &[Value]) -> Output {
    let value = arg(args, 1)?;
    let is_empty = match value {
        Value::String(text) => text.is_empty(),
        Value::NoValue | Value::Nil => true,
        _ => false,
    };
    Ok(if is_empty { arg(args, 0)? } else { value }.clone())
}

/// `dig KEY… DEFAULT MAP`.
fn dig(args: &[Value]) -> Output {
    let [keys @ .., default, map] = args else {
        return Err(failed("dig KEY… DEFAULT MAP"));
    };
    let mut value = map;
    for key in keys {
        match (value, key) {
            (Value::Map(map), Value::String(key)) if map.contains_key(key) => value = &map[key],
            _ => return Ok(default.clone()),
        }
    }
    Ok(value.clone())
}

/// A certificate for a name, addresses, further names, and days.
fn gen_self_signed_cert(args: &[Value]) -> Output {
    let (Value::Array(names), Value::Number(days)) = (arg(args, 2)?, arg(args, 3)?) else {
        return Err(failed("genSelfSignedCert NAME ADDRESSES NAMES DAYS"));
    };
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let days = days.as_u64().unwrap_or_default();
    let generate = || -> Result<[String; 2], rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, string(args, 0).unwrap_or_default());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        params.not_before = now.into();
        params.not_after = (now + Duration::from_secs(days * 24 * 3600)).into();
        Ok([params.self_signed(&key)?.pem(), key.serialize_pem()])
    };
    let [cert, key] =
        generate().map_err(|error| failed(&format!("make a certificate: {error}")))?;
    Ok(from_json(&serde_json::json!({"Cert": cert, "Key": key})))
}

fn indent(args: &[Value]) -> Output {
    let Value::Number(spaces) = arg(args, 0)? else {
        return Err(failed("indent SPACES TEXT"));
    };
    let margin = " ".repeat(spaces.as_u64().unwrap_or_default() as usize);
    let text = string(args, 1)?;
    Ok(format!("{margin}{}", text.replace('\n', &format!("\n{margin}"))).into())
}

/// Asked of what may be unset: Go's name for booleans is all that is known.
fn kind_is(args: &[Value]) -> Output {
    Ok((string(args, 0)? == "bool" && matches!(arg(args, 1)?, Value::Bool(_))).into())
}

fn list(args: &[Value]) -> Output {
    Ok(Value::Array(args.to_vec()))
}

/// Nothing: as with `helm template`, there is no cluster to look into.
fn lookup(_: &[Value]) -> Output {
    Ok(from_json(&serde_json::json!({})))
}

fn sha256sum(args: &[Value]) -> Output {
    let digest = Sha256::digest(string(args, 0)?);
    Ok(digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into())
}

fn to_json_text(args: &[Value]) -> Result<Json, FuncError> {
    Ok(json(arg(args, 0)?))
}

fn to_json(args: &[Value]) -> Output {
    Ok(to_json_text(args)?.to_string().into())
}

fn to_yaml(args: &[Value]) -> Output {
    let yaml = serde_yaml::to_string(&json(arg(args, 0)?))
        .map_err(|error| failed(&format!("toYaml: {error}")))?;
    Ok(yaml.trim_end().into())
}

fn arg(args: &[Value], index: usize) -> Result<&Value, FuncError> {
    let missing = || failed(&format!("argument {} is missing", index + 1));
    args.get(index).ok_or_else(missing)
}

fn string(args: &[Value], index: usize) -> Result<String, FuncError> {
    match arg(args, index)? {
        Value::String(text) => Ok(text.clone()),
        other => Err(failed(&format!("{other} is not a string"))),
    }
}

fn failed(what: &str) -> FuncError {
    FuncError::Generic(what.to_owned())
}

/// JSON as a template has it.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(bool) => (*bool).into(),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::Array(items.iter().map(from_json).collect()),
        Json::Object(map) => Value::Map(
            map.iter()
                .map(|(key, value)| (key.clone(), from_json(value)))
                .collect(),
        ),
    }
}

/// The way back, with sorted keys as Go has them.
fn json(value: &Value) -> Json {
    match value {
        Value::Bool(bool) => (*bool).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (None, Some(number), _) => number.into(),
            (None, None, number) => number.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Object(map) | Value::Map(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            sorted
                .into_iter()
                .map(|(key, value)| (key.clone(), json(value)))
                .collect()
        }
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
    }
}
