#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use moorline_plugin::schema::{Anchor, Setup, VerifyRequest};
use moorline_plugin::testing::Replay;
use moorline_plugin::{Host, Identity, Refusal, abi};

use super::*;

/// Real envelopes of machines that are long gone.
const SAMPLES: [(&str, &str, i64); 3] = [
    (include_str!("../samples/public-2022.b64"), "bd8e7443-24a0-41f3-b949-8baf4fd1c573", 1_650_332_000),
    (include_str!("../samples/government-2023.b64"), "990878d4-068a-4ac4-9ee9-1231d2218ef2", 1_678_296_000),
    (include_str!("../samples/public-2024.b64"), "960a4b4a-dab2-44ef-9b73-7753043b4f16", 1_713_808_000),
];
/// What stood between those and their roots.
const ENDED: &str = include_str!("../samples/ended.txt");
/// Warning time before an anchor ends, seconds: 180 days.
const AHEAD: i64 = 180 * 86_400;

fn azure(now: i64) -> Azure {
    let setup = Setup { anchors: anchors::read(ENDED).unwrap(), ..Setup::default() };
    Azure::create(setup, Host::new(Replay::new(now))).unwrap()
}

fn ask(azure: &Azure, signature: &str) -> Result<Verified, Refusal> {
    azure.verify(VerifyRequest { fields: [("signature".to_owned(), signature.to_owned())].into() })
}

fn code(result: Result<Verified, Refusal>) -> String {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.status, abi::REFUSED);
    refusal.refused.code
}

#[test]
fn proves_real_machines_of_their_time() {
    for (sample, vm_id, then) in SAMPLES {
        assert_eq!(ask(&azure(then), sample).unwrap().instance_id, vm_id);
    }
}

#[test]
fn refuses_them_before_and_after() {
    for (sample, _, then) in SAMPLES {
        assert_eq!(code(ask(&azure(then + 86_400), sample)), "expired");
        assert_eq!(code(ask(&azure(then - 86_400), sample)), "clock_skew");
        let refusal = ask(&azure(then + 1_000 * 86_400), sample).unwrap_err().refused;
        assert_eq!(refusal.code, "expired_anchor");
        assert!(refusal.message.contains("ended ") && refusal.message.contains(" days ago"), "{}", refusal.message);
    }
}

#[test]
fn refuses_another_text_in_a_real_envelope() {
    for (sample, vm_id, then) in SAMPLES {
        let mut der = decode(sample).unwrap();
        let at = der.windows(vm_id.len()).position(|window| window == vm_id.as_bytes()).unwrap();
        der[at] ^= 1;
        assert_eq!(code(ask(&azure(then), &STANDARD.encode(der))), "bad_signature");
    }
}

#[test]
fn needs_the_intermediate_certificate() {
    let (sample, _, then) = SAMPLES[2];
    let alone = Azure::create(Setup::default(), Host::new(Replay::new(then))).unwrap();
    assert_eq!(code(ask(&alone, sample)), "unknown_issuer");
}

#[test]
fn refuses_what_has_not_the_form() {
    let (sample, _, then) = SAMPLES[2];
    let azure = azure(then);
    let der = decode(sample).unwrap();
    let mut longer = der.clone();
    longer.push(0);
    for signature in ["", "not base64!", "MAA=", &STANDARD.encode(&der[..der.len() - 1]), &STANDARD.encode(longer)] {
        assert_eq!(code(ask(&azure, signature)), "malformed");
    }
    assert_eq!(code(ask(&azure, &"A".repeat(100_000))), "malformed");
}

#[test]
fn takes_no_odd_anchors() {
    let good = anchors::read(ENDED).unwrap().remove(0);
    let odd = [Anchor { role: "aws".into(), ..good.clone() }, Anchor { data: vec![0x30, 0], ..good }];
    for anchor in odd {
        let setup = Setup { anchors: vec![anchor], ..Setup::default() };
        assert_eq!(Azure::create(setup, Host::new(Replay::new(0))).err().unwrap().status, abi::INVALID);
    }
}

#[test]
fn no_shipped_anchor_ends_within_180_days() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let shipped = Azure::create(Setup::default(), Host::new(Replay::new(now))).unwrap().anchors().unwrap().anchors;
    assert_eq!(shipped.len(), 4);
    for anchor in shipped {
        assert!(anchor.not_after.unwrap() > now + AHEAD, "{} ends soon: ship its successor", anchor.name);
    }
}
