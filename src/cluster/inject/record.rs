//! What an injected pod knows of how it was before, in an annotation.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::annotation;
use super::names::{STATUS, WARNING};

/// The lists of a container that something is put into for a proxy.
pub const LISTS: [&str; 2] = ["env", "volumeMounts"];

/// Where something is put in, the inner before the outer.
const PLACES: [(&str, &str); 5] = [
    ("/spec", "containers"),
    ("/spec", "initContainers"),
    ("/spec", "volumes"),
    ("/metadata", "annotations"),
    ("", "metadata"),
];

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Annotations that were added, with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Annotations with a list that an element was added to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    appended: BTreeMap<String, Appended>,
    /// Places that were there, and empty, or null: others that are empty in the end were not there.
    #[serde(skip_serializing_if = "Map::is_empty")]
    empty: Map<String, Value>,
    /// Lists of the proxy's container that were there, and empty, or null.
    #[serde(skip_serializing_if = "Map::is_empty")]
    lists: Map<String, Value>,
}

/// What was added to a list in an annotation.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Appended {
    element: String,
    /// The annotation's value before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

impl Appended {
    fn value(&self) -> String {
        match self.before.as_deref() {
            None | Some("") => self.element.clone(),
            Some(before) => format!("{before},{}", self.element),
        }
    }

    /// What is left of the annotation's value without the element.
    fn undo(self, value: &str) -> Option<String> {
        if value == self.value() {
            return self.before;
        }
        // Others have changed it since.
        let left: Vec<&str> = elements(value)
            .filter(|element| *element != self.element)
            .collect();
        (!left.is_empty()).then(|| left.join(","))
    }
}

/// The elements of a list with commas between them.
pub fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let json = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&json)
    }
}

impl Record {
    /// The record of a pod that is about to be injected.
    pub fn of(bare: &Value) -> Self {
        let mut record = Self::default();
        for (parent, field) in PLACES {
            if let Some(value) = bare.pointer(parent).and_then(|parent| parent.get(field))
                && is_empty(value)
            {
                record.empty.insert(field.into(), value.clone());
            }
        }
        record
    }

    /// The record of a pod that has been injected; `None` if it has not been. A record that can't
    /// be read knows nothing.
    pub fn read(pod: &Value) -> Option<Self> {
        let text = annotation(pod, STATUS)?;
        Some(serde_json::from_str(text).unwrap_or_default())
    }

    /// Adds annotations.
    pub fn add(&mut self, annotations: &mut Map<String, Value>, new: &[(&str, String)]) {
        for (name, value) in new {
            annotations.insert((*name).into(), value.as_str().into());
            self.annotations.insert((*name).into(), value.clone());
        }
    }

    /// Adds an element to the list in an annotation, unless the list has it.
    pub fn append(&mut self, annotations: &mut Map<String, Value>, name: &str, element: &str) {
        let before = match annotations.get(name) {
            None => None,
            Some(Value::String(before)) => Some(before.clone()),
            Some(_) => return,
        };
        if before
            .as_deref()
            .is_some_and(|list| elements(list).any(|of| of == element))
        {
            return;
        }
        let appended = Appended {
            element: element.into(),
            before,
        };
        annotations.insert(name.into(), appended.value().into());
        self.appended.insert(name.into(), appended);
    }

    /// Notes which of the lists in the proxy's container, to which something is about to be added, are
    /// empty.
    pub fn lists(&mut self, container: &Value) {
        for field in LISTS {
            if let Some(value) = container.get(field)
                && is_empty(value)
            {
                self.lists.insert(field.into(), value.clone());
            }
        }
    }

    /// Removes the lists of the proxy's container that are empty now and were not there before.
    pub fn undo_lists(&self, container: &mut Value) {
        if let Some(fields) = container.as_object_mut() {
            for field in LISTS {
                restore(fields, field, &self.lists);
            }
        }
    }

    /// Removes the annotations, and what is empty now and was not there before.
    pub fn undo(self, pod: &mut Value) {
        if let Some(annotations) = object(pod, "/metadata/annotations") {
            annotations.shift_remove(STATUS);
            annotations.shift_remove(WARNING);
            // They belong together: if others have changed one since, all are theirs.
            let is_changed = |(name, value): (&String, &String)| {
                annotations.get(name).is_some_and(|is| is != value)
            };
            if !self.annotations.iter().any(is_changed) {
                for name in self.annotations.keys() {
                    annotations.shift_remove(name);
                }
            }
            for (name, appended) in self.appended {
                let Some(value) = annotations.get(&name).and_then(Value::as_str) else {
                    continue;
                };
                match appended.undo(value) {
                    Some(left) => annotations.insert(name, left.into()),
                    None => annotations.shift_remove(&name),
                };
            }
        }
        for (parent, field) in PLACES {
            let Some(fields) = object(pod, parent) else {
                continue;
            };
            restore(fields, field, &self.empty);
        }
    }
}

/// Makes a field that is empty what it was before, or removes it if it was not there.
fn restore(fields: &mut Map<String, Value>, field: &str, before: &Map<String, Value>) {
    if fields.get(field).is_some_and(is_empty) {
        match before.get(field) {
            Some(before) => fields[field] = before.clone(),
            None => drop(fields.shift_remove(field)),
        }
    }
}

fn object<'a>(pod: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    pod.pointer_mut(pointer)?.as_object_mut()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
