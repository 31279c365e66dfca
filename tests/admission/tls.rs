//! TLS: versions, what is broken, and certificates that are replaced.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    api::Api,
    fixture::{Injector, run, until, wanted},
    pki::{Authority, Pair},
};

/// What openssl's client says of a handshake.
fn s_client(injector: &Injector, args: &[&str]) -> (bool, String) {
    let ca = injector.path("ca.pem");
    let address = injector.reviews.to_string();
    let common = [
        "s_client",
        "-connect",
        &address,
        "-CAfile",
        ca.to_str().unwrap(),
        "-servername",
        "localhost",
        "-verify_hostname",
        "localhost",
        "-verify_return_error",
    ];
    run(
        "openssl",
        &[&common[..], args].concat(),
        Path::new("/dev/null"),
    )
}

/// The serial number of the certificate that is served.
fn serial(injector: &Injector) -> String {
    let (ok, text) = s_client(injector, &[]);
    assert!(ok, "{text}");
    let path = injector.path("served.pem");
    fs::write(&path, &text).unwrap();
    let (ok, text) = run("openssl", &["x509", "-noout", "-serial"], &path);
    assert!(ok, "{text}");
    text.trim().into()
}

#[test]
fn tls_1_2_and_1_3_with_either_protocol() {
    let api = Api::start();
    let injector = Injector::start(&api);
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for protocol in ["h2", "http/1.1"] {
            let (ok, text) = s_client(&injector, &[version, "-alpn", protocol]);
            assert!(ok && text.contains("Verify return code: 0 (ok)"), "{text}");
            assert!(text.contains(&format!("New, {name}")), "{text}");
            assert!(
                text.contains(&format!("ALPN protocol: {protocol}")),
                "{text}"
            );
        }
        let curl = format!("--tlsv{}", &name[4..]);
        let max = ["--tls-max", &name[4..]];
        let reply = injector.post(
            &[&[&*curl][..], &max].concat(),
            wanted().to_string().as_bytes(),
        );
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let old = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"];
    let (ok, text) = s_client(&injector, &old);
    assert!(!ok && text.contains("SSL alert number"), "{text}");
}

#[test]
fn broken_tls_does_no_harm() {
    let api = Api::start();
    let injector = Injector::start(&api);
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0; 4096],
        b"",
    ] {
        let mut stream = TcpStream::connect(injector.reviews).unwrap();
        stream.write_all(bytes).unwrap();
        if bytes.is_empty() {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let failed = || injector.metric("metricd_injector_tls_handshakes_failed_total");
    until("counted", failed, |failed| *failed == 5.0);
    assert!(injector.ask(&wanted()).pod.is_some());
}

#[test]
fn connections_that_say_nothing_keep_nobody_out_for_long() {
    let api = Api::start();
    let injector = Injector::start(&api);
    // More than there are places for.
    let begun = Instant::now();
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(injector.reviews).unwrap())
        .collect();
    assert!(injector.ask(&wanted()).pod.is_some());
    assert!(begun.elapsed() < Duration::from_secs(15));
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn a_certificate_that_is_replaced_is_served_at_once() {
    let api = Api::start();
    let mut injector = Injector::start(&api);
    assert_eq!(serial(&injector), "serial=01");
    for number in 2..10 {
        let pair = injector.authority.pair(number);
        injector.swap(&pair);
        assert_eq!(serial(&injector), format!("serial=0{number}"));
    }
    assert!(injector.ask(&wanted()).pod.is_some());
    assert_eq!(
        injector.metric("metricd_injector_certificate_failures_total"),
        0.0
    );
}

#[test]
fn a_certificate_that_makes_no_sense_leaves_the_one_before() {
    let api = Api::start();
    let mut injector = Injector::start(&api);
    let good = injector.authority.pair(2);
    let other = Authority::new().pair(3);
    let pair = |certificate: &str, key: &str| Pair {
        certificate: certificate.into(),
        key: key.into(),
    };
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let failures =
        |injector: &Injector| injector.metric("metricd_injector_certificate_failures_total");
    for (count, (bad, problem)) in [
        (pair("", ""), "tls.crt has no certificate"),
        (
            pair(&good.certificate, "garbage"),
            "tls.key has no key in PEM",
        ),
        (pair(garbage, &good.key), "tls.crt is no certificate"),
        (pair(&good.certificate, &other.key), "tls.crt with tls.key"),
    ]
    .into_iter()
    .enumerate()
    {
        injector.swap(&bad);
        assert_eq!(serial(&injector), "serial=01");
        assert_eq!(failures(&injector), count as f64 + 1.0);
        assert!(injector.log().contains(problem), "{problem}");
        assert_eq!(injector.page("/ready").status, 200);
    }
    injector.swap(&good);
    assert_eq!(serial(&injector), "serial=02");
}

#[test]
fn a_certificate_that_comes_late_is_waited_for() {
    let api = Api::start();
    let mut injector = Injector::without_certificate(&api);
    let ready = injector.page("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("no certificate: read ") && ready.body.contains("tls.crt"));
    let reply = injector.post(&[], wanted().to_string().as_bytes());
    assert_eq!(reply.status, 0, "{reply:?}");

    let pair = injector.authority.pair(2);
    injector.swap(&pair);
    injector.until_ready();
    assert!(injector.ask(&wanted()).pod.is_some());

    // What was loaded is kept, even if there is nothing now.
    fs::rename(injector.path("tls"), injector.path("elsewhere")).unwrap();
    assert_eq!(injector.page("/ready").status, 200);
    assert!(injector.ask(&wanted()).pod.is_some());
}
