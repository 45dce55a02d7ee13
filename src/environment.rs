//! The environment, without what S3 clients would take for theirs.
//!
//! They read variables also without `AWS_` before their name, such as `TOKEN`, `ENDPOINT`, `REGION` or `TIMEOUT`, which in
//! a pod may mean anything, and an empty one counts as set.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::OnceLock;

use object_store::aws::AmazonS3ConfigKey;

static SET_ASIDE: OnceLock<HashMap<String, String>> = OnceLock::new();

/// Takes such variables out of the environment. To be called before there are threads.
pub fn set_aside() {
    let all =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let strange: HashMap<_, _> = all.filter(|(name, value)| is_strange(name, value)).collect();
    for name in strange.keys() {
        // SAFETY: nothing else runs that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    let _ = SET_ASIDE.set(strange);
}

fn is_strange(name: &str, value: &str) -> bool {
    let lower = name.to_lowercase();
    match lower.starts_with("aws_") {
        true => value.is_empty(),
        false => AmazonS3ConfigKey::from_str(&lower).is_ok(),
    }
}

/// The value of a variable, set aside or not.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| SET_ASIDE.get()?.get(name).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_meant_for_amazon_is_strange() {
        for (name, value) in [("TOKEN", "x"), ("endpoint_url", "x"), ("TIMEOUT", "60"), ("AWS_ENDPOINT_URL", "")] {
            assert!(is_strange(name, value), "{name}");
        }
        for (name, value) in [("AWS_REGION", "x"), ("AWS_ENDPOINT_URL_S3", "x"), ("HOME", ""), ("LAKEMERGE_LOG", "")] {
            assert!(!is_strange(name, value), "{name}");
        }
    }
}
