//! Verdicts as files have them: by name.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::compare::{Reason, Verdict};

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Verdict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Verdict::from_name(&name).ok_or_else(|| D::Error::custom(format!("no verdict `{name}`")))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Reason::from_name(&name).ok_or_else(|| D::Error::custom(format!("no reason `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_reasons_are_written_by_name_and_read_back() {
        let pair = (Verdict::Slower, Reason::TooFew);
        let text = serde_json::to_string(&pair).unwrap();
        assert_eq!(text, r#"["SLOWER","too_few"]"#);
        assert_eq!(serde_json::from_str::<(Verdict, Reason)>(&text).unwrap(), pair);
        let unknown = serde_json::from_str::<Verdict>(r#""FASTEST""#).unwrap_err();
        assert!(unknown.to_string().contains("no verdict `FASTEST`"));
    }
}
