#![allow(clippy::unwrap_used)]

use moorline_plugin::schema::{Anchor, Setup, VerifyRequest};
use moorline_plugin::testing::Replay;
use moorline_plugin::{Host, Identity, Refusal, abi};

use super::*;

/// A real document of 2022 and its signature; the instance is long gone.
const DOCUMENT: &str = include_str!("sample.json");
const SIGNATURE: &str = "M7rX9w1s5zK1V7hK0dsE4hTDXHHaaDuKQ9iIz/W8ZNaA2lJ/usz5YuX+ORt3luJwswl/+B7cYOkJ\n\
                         bXRMx/pEQ6vT+niLGZDC9ZZ1h9Ox4h4e4m4IisQSCUrVIzyLj+MB27/Wyy0NhXcpoZVjNEmioxF2\n\
                         HNpOR4aCwUxxOm81y98=";

fn aws(anchors: Vec<Anchor>) -> Aws {
    Aws::create(Setup { anchors, ..Setup::default() }, Host::new(Replay::new(0))).unwrap()
}

fn ask(aws: &Aws, document: &str, signature: &str) -> Result<String, Refusal> {
    let fields = [("document", document), ("signature", signature)];
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    aws.verify(VerifyRequest { fields }).map(|verified| verified.instance_id)
}

fn code(result: Result<String, Refusal>) -> String {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.status, abi::REFUSED);
    refusal.refused.code
}

#[test]
fn proves_a_real_document() {
    assert_eq!(ask(&aws(Vec::new()), DOCUMENT, SIGNATURE).unwrap(), "i-076e9b91f7c420782");
}

#[test]
fn refuses_whatever_differs_by_a_byte() {
    let aws = aws(Vec::new());
    let other = DOCUMENT.replace("i-076e9b91f7c420782", "i-076e9b91f7c420783");
    assert_eq!(code(ask(&aws, &other, SIGNATURE)), "unknown_region");
    assert_eq!(code(ask(&aws, &DOCUMENT.replace("us-east-1\"", "me-south-1\""), SIGNATURE)), "bad_signature");
    assert_eq!(code(ask(&aws, &DOCUMENT.replace(" : ", ":"), SIGNATURE)), "unknown_region");
    assert_eq!(code(ask(&aws, DOCUMENT, &SIGNATURE.replace("M7rX", "M7rY"))), "unknown_region");
}

#[test]
fn refuses_what_has_not_the_form() {
    let aws = aws(Vec::new());
    for document in ["", "<html>", "[]", "{}", r#"{"instanceId":7}"#, r#"{"instanceId":""}"#] {
        assert_eq!(code(ask(&aws, document, SIGNATURE)), "malformed", "{document}");
    }
    assert_eq!(code(ask(&aws, DOCUMENT, "not base64")), "malformed");
}

#[test]
fn shows_its_anchors_with_their_ends() {
    let anchors = aws(Vec::new()).anchors().unwrap().anchors;
    assert_eq!(anchors.len(), 14);
    let other = anchors.iter().find(|anchor| anchor.name == "aws/other").unwrap();
    assert_eq!(other.not_after, Some(1_717_597_682));
}

#[test]
fn takes_an_anchor_in_place_of_a_shipped_one() {
    let shipped = aws(Vec::new()).anchors().unwrap().anchors;
    let china = shipped.iter().find(|anchor| anchor.name == "aws/china").unwrap().data.clone();
    let replaced = Anchor { name: "aws/other".into(), role: "aws".into(), data: china, not_after: None };
    assert_eq!(code(ask(&aws(vec![replaced.clone()]), DOCUMENT, SIGNATURE)), "unknown_region");
    let added = Anchor { name: "aws/elsewhere".into(), ..replaced };
    assert!(ask(&aws(vec![added.clone()]), DOCUMENT, SIGNATURE).is_ok());
    let broken = Anchor { data: vec![0x30, 0], ..added };
    let setup = Setup { anchors: vec![broken], ..Setup::default() };
    assert_eq!(Aws::create(setup, Host::new(Replay::new(0))).err().unwrap().status, abi::INVALID);
}
