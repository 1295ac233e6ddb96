//! `key=value,key=value` options: every knob of a peer that we vary.
use std::{collections::BTreeMap, fmt, str::FromStr};

#[derive(Clone, Default, Debug)]
pub struct Tune(BTreeMap<String, String>);

impl Tune {
    pub fn parse(s: &str) -> Self {
        let mut t = Tune::default();
        for kv in s.split(',').filter(|x| !x.is_empty()) {
            let (k, v) = kv.split_once('=').unwrap_or((kv, "1"));
            t.0.insert(k.trim().into(), v.trim().into());
        }
        t
    }

    /// `other` wins over `self`.
    pub fn merge(mut self, other: &Tune) -> Self {
        self.0.extend(other.0.clone());
        self
    }

    pub fn without(&self, key: &str) -> Self {
        let mut t = self.clone();
        t.0.remove(key);
        t
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    pub fn str<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).map(|s| s.as_str()).unwrap_or(default)
    }

    pub fn opt<T: FromStr>(&self, key: &str) -> Option<T> {
        self.0.get(key).map(|v| match v.parse() {
            Ok(v) => v,
            Err(_) => panic!("bad value for {key}: {v}"),
        })
    }

    pub fn get<T: FromStr>(&self, key: &str, default: T) -> T {
        self.opt(key).unwrap_or(default)
    }
}

impl fmt::Display for Tune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v: Vec<_> = self.0.iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&v.join(","))
    }
}
