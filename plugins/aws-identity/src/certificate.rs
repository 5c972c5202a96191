//! The public key of a certificate. Nothing else of it is read, so that odd ones (no dates, no names) serve as containers.

/// DER tag of a SEQUENCE.
const SEQUENCE: u8 = 0x30;
/// DER tag of the explicit version of a certificate.
const VERSION: u8 = 0xa0;
/// DER tag of a BIT STRING.
const BIT_STRING: u8 = 0x03;
/// DER of the object identifier rsaEncryption, with its tag.
const RSA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// DER of a GeneralizedTime or UTCTime: tags.
const TIMES: [u8; 2] = [0x17, 0x18];

/// One DER element: tag, content, what comes behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn of_tag(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == expected).then_some((content, rest))
}

/// What lies between the serial number and the key of a certificate in DER.
struct Body<'a> {
    validity: &'a [u8],
    key_info: &'a [u8],
}

fn body(der: &[u8]) -> Option<Body<'_>> {
    let (certificate, after) = of_tag(der, SEQUENCE)?;
    if !after.is_empty() {
        return None;
    }
    let (mut rest, _) = of_tag(certificate, SEQUENCE)?;
    if let Some((_, behind)) = of_tag(rest, VERSION) {
        rest = behind;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (validity, rest) = of_tag(rest, SEQUENCE)?;
    let (_, _, rest) = element(rest)?;
    let (key_info, _) = of_tag(rest, SEQUENCE)?;
    Some(Body { validity, key_info })
}

/// The `RSAPublicKey` of a certificate in DER, as ring takes it.
pub(crate) fn rsa_key(der: &[u8]) -> Option<&[u8]> {
    let Body { key_info, .. } = body(der)?;
    let (algorithm, rest) = of_tag(key_info, SEQUENCE)?;
    if !algorithm.starts_with(&RSA) {
        return None;
    }
    let (bits, _) = of_tag(rest, BIT_STRING)?;
    // The first byte counts unused bits.
    bits.strip_prefix(&[0])
}

/// When a certificate in DER ends: seconds since 1970 began.
pub(crate) fn not_after(der: &[u8]) -> Option<i64> {
    let (_, _, rest) = element(body(der)?.validity)?;
    let (tag, text, _) = element(rest)?;
    if !TIMES.contains(&tag) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (year, rest) = match tag {
        // RFC 5280: two digits from 50 on are of the 20th century.
        0x17 => {
            let (digits, rest) = text.split_at_checked(2)?;
            let year: i64 = digits.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        _ => {
            let (digits, rest) = text.split_at_checked(4)?;
            (digits.parse().ok()?, rest)
        }
    };
    let mut numbers = [0_i64; 5];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = rest.get(index * 2..index * 2 + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = numbers;
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March put the leap day last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_days() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2024, 6, 5), 19_879);
    }

    #[test]
    fn refuses_what_is_no_certificate() {
        for bytes in [&b""[..], b"\x30", b"\x30\x03\x02\x01\x01", b"\x30\x84\xff\xff\xff\xff", b"0\x80\0\0"] {
            assert_eq!(rsa_key(bytes), None);
            assert_eq!(not_after(bytes), None);
        }
    }
}
