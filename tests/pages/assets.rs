//! What pages load.

use std::collections::BTreeMap;

use super::House;
use crate::golden::rig::Ask;

/// The paths of what a page loads.
fn loaded(page: &str) -> Vec<String> {
    let pieces = page.split("/static/").skip(1);
    pieces.map(|piece| format!("/static/{}", piece.split('"').next().unwrap())).collect()
}

#[test]
fn gives_out_what_its_pages_load_to_be_kept_for_good() {
    let mut house = House::signed_in();
    let mut paths: Vec<String> = ["/login?x", "/", "/@alice/dev", "/@alice/dev/terminal"]
        .iter()
        .flat_map(|path| loaded(&house.get(path).text()))
        .collect();
    for wanted in ["style.css", "live.js", "workspace.js", "terminal.js", "xterm.css", "icon.svg"] {
        assert!(paths.iter().any(|path| path.ends_with(&format!("/{wanted}"))), "{wanted}: {paths:?}");
    }
    // Modules that they name are there, too.
    for path in paths.clone().iter().filter(|path| path.ends_with(".js")) {
        let folder = path.rsplit_once('/').unwrap().0;
        let script = house.get(path).text();
        let named =
            script.lines().filter(|line| line.starts_with("import ")).map(|line| line.split('\'').nth(1).unwrap());
        paths.extend(named.map(|name| format!("{folder}/{}", name.strip_prefix("./").unwrap())));
    }
    for path in paths {
        let got = house.rig.ask(&Ask::new("GET", &path));
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(got.header("Cache-Control"), Some("public, max-age=31536000, immutable"), "{path}");
        assert_eq!(got.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(got.header("Cross-Origin-Resource-Policy"), Some("same-origin"));
        assert_eq!(got.header("Set-Cookie"), None, "it goes into shared caches");
        let kind = match path.rsplit('.').next().unwrap() {
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "text/javascript; charset=utf-8",
        };
        assert_eq!(got.header("Content-Type"), Some(kind), "{path}");
        let (folder, name) = path.rsplit_once('/').unwrap();
        assert_eq!(house.get(&format!("{folder}/nosuch")).status, 404);
        let other = house.rig.ask(&Ask::new("GET", &format!("/static/0123456789abcdef/{name}")));
        assert_eq!((other.status, other.header("Cache-Control")), (200, Some("no-cache")));
    }
}

#[test]
fn ships_what_others_wrote_as_they_published_it() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rest/pages/vendor");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let listed: BTreeMap<&str, &str> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('`').collect::<Vec<_>>())
        .map(|parts| (parts[1], parts[parts.len() - 2]))
        .collect();
    let mut found = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        found += 1;
        let sum = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&path).unwrap());
        assert_eq!(listed.get(name).copied(), Some(moorline::model::hex(sum.as_ref()).as_str()), "{name}");
    }
    assert_eq!(found, listed.len());
}
