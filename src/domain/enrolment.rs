//! How a machine is made an agent of this server: the certificates that it must trust, and the line that
//! the operator runs on it.

use std::io::Read;
use std::path::Path;

use super::{Error, Fault};

/// Largest file of certificates, bytes: it stands in every script.
const CERTIFICATES_BYTES: u64 = 64 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM file, and nothing else that it may have: what is given here stands in
/// scripts.
pub fn certificates(file: &Path) -> Result<String, Error> {
    let wrong = |detail: String| {
        Error::new(Fault::Internal, format!("The CA certificates in {} cannot be used.", file.display())).detail(detail)
    };
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(CERTIFICATES_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => return Err(wrong(error.to_string())),
        Ok(length) if u64::try_from(length).is_ok_and(|length| length > CERTIFICATES_BYTES) => {
            return Err(wrong("The file is larger than 64 KiB.".into()));
        }
        Ok(_) => {}
    }
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        match (inside, line) {
            (false, BEGIN) => inside = true,
            (true, END) => inside = false,
            (false, _) => continue,
            (true, _) if line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) => {}
            (true, _) => return Err(wrong("A certificate has a line that is not base64.".into())),
        }
        out.push_str(line);
        out.push('\n');
    }
    if inside || out.is_empty() {
        return Err(wrong("It has no complete certificate in PEM form.".into()));
    }
    Ok(out)
}

/// The path of the script for machines of this system.
pub fn script(system: &str) -> &'static str {
    if system == "windows" { "/enrol.ps1" } else { "/enrol.sh" }
}

/// What the operator runs on a machine of this system (`linux`, `darwin`, `windows`). `pin` is the
/// script's SHA-256 in hexadecimal digits. It stands for all that a bare machine cannot check: plain HTTP,
/// and certificates of an authority that only the script tells of.
pub fn line(url: &str, system: &str, pin: &str, token: &str) -> String {
    let from = format!("{url}{}", script(system));
    if system == "windows" {
        return format!(
            "$env:CODER_AGENT_TOKEN='{token}'; $f=\"$env:TEMP\\enrol.ps1\"; curl.exe -fsSLk -o $f {from}; \
             if ((Get-FileHash $f).Hash -eq '{pin}') {{ powershell -ExecutionPolicy Bypass -File $f }} \
             else {{ 'This is not the script of the server.' }}"
        );
    }
    let check = if system == "darwin" { "shasum -a 256 -c" } else { "sha256sum -c" };
    format!(
        "f=$(mktemp) && {{ curl -fsSLk -o $f {from} || wget -qO $f --no-check-certificate {from} || \
         busybox wget -qO $f {from}; }} && echo \"{pin}  $f\" | {check} && CODER_AGENT_TOKEN={token} sh $f"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn takes_certificates_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            certificates(&file).map_err(|error| error.detail)
        };
        let good = format!("{BEGIN}\nAAAA\nBB+/==\n{END}\n");
        assert_eq!(read(&good), Ok(good.clone()));
        let noisy = format!("# ours\r\n{}-----BEGIN PRIVATE KEY-----\nCCCC\n", good.replace('\n', "\r\n"));
        assert_eq!(read(&noisy), Ok(good.clone()), "no keys, no comments");
        for bad in ["", "hello", BEGIN, &format!("{BEGIN}\nAAAA"), &format!("{BEGIN}\n$(reboot)\n{END}\n")] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&good.repeat(2_000)).is_err());
        assert!(certificates(&folder.path().join("none.pem")).is_err());
    }
}
