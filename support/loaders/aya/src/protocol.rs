// SPDX-License-Identifier: Apache-2.0

//! Requests and replies, as docs/loaders.md describes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    Start {
        #[serde(default)]
        objects: Vec<String>,
    },
    Open {
        object: String,
        #[serde(default)]
        set: BTreeMap<String, String>,
        #[serde(default)]
        map_sizes: BTreeMap<String, u32>,
    },
    Load {
        program: String,
        #[serde(default)]
        log: Log,
    },
    Attach {
        program: String,
    },
}

/// How much the verifier writes to its log.
#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    #[default]
    Stats,
    Path,
    All,
}

impl Log {
    /// Returns the kernel's number: the sum of BPF_LOG_STATS (4) and BPF_LOG_LEVEL1 (1) or 2 (2).
    pub fn level(self) -> u32 {
        match self {
            Self::Stats => crate::calls::STATS,
            Self::Path => 1 | 4,
            Self::All => 2 | 4,
        }
    }
}

#[derive(Default, Serialize)]
pub struct Reply {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<Listed>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub map_sizes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

/// A program of an object, before it is loaded.
#[derive(Clone, Serialize)]
pub struct Listed {
    pub name: String,
    pub section: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub attach_to: String,
    pub optional: bool,
}

#[derive(Clone, Default, Serialize)]
pub struct Failure {
    pub step: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    pub words: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_supported: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

#[derive(Clone, Serialize)]
pub struct Missing {
    pub kind: &'static str,
    pub name: String,
}

/// A map that was made, or that could not be made.
#[derive(Clone, Default, Serialize)]
pub struct Map {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// The result of `load` and `attach`.
#[derive(Default, Serialize)]
pub struct Outcome {
    pub loaded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translated_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jited_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<Vec<usize>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_info: Option<Vec<Line>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The line of source that an instruction, and those that follow, come from.
#[derive(Serialize)]
pub struct Line {
    pub insn: u32,
    pub file: String,
    pub line: u32,
    pub text: String,
}
