//! Files that pages load: style, icon, scripts. They stand in the program, and nothing comes from elsewhere.

use std::sync::LazyLock;

use ring::digest::{Context, SHA256};

use crate::domain::{Error, Fault};
use crate::model::hex;
use crate::rest::reply::Reply;
use crate::rest::request::Call;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const fn asset(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { name, content_type, bytes }
}

/// All of them. Those below `vendor` are as their authors published them; see the README there.
const ASSETS: &[Asset] = &[
    asset("icon.svg", "image/svg+xml", include_bytes!("icon.svg")),
    asset("style.css", STYLE, include_bytes!("style.css")),
    asset("copy.js", SCRIPT, include_bytes!("copy.js")),
    asset("emulator.js", SCRIPT, include_bytes!("emulator.js")),
    asset("live.js", SCRIPT, include_bytes!("live.js")),
    asset("socket.js", SCRIPT, include_bytes!("socket.js")),
    asset("terminal.js", SCRIPT, include_bytes!("terminal.js")),
    asset("workspace.js", SCRIPT, include_bytes!("workspace.js")),
    asset("addon-fit.mjs", SCRIPT, include_bytes!("vendor/addon-fit.mjs")),
    asset("addon-unicode11.mjs", SCRIPT, include_bytes!("vendor/addon-unicode11.mjs")),
    asset("addon-web-links.mjs", SCRIPT, include_bytes!("vendor/addon-web-links.mjs")),
    asset("xterm.css", STYLE, include_bytes!("vendor/xterm.css")),
    // Goes wherever the program goes, as the licence wants it.
    asset("xterm-license.txt", "text/plain; charset=utf-8", include_bytes!("vendor/LICENSE.xterm")),
    asset("xterm.mjs", SCRIPT, include_bytes!("vendor/xterm.mjs")),
];

/// Names the contents of all files: a path with it in it never means anything else.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut context = Context::new(&SHA256);
    for asset in ASSETS {
        context.update(asset.name.as_bytes());
        context.update(&[0]);
        context.update(asset.bytes);
    }
    hex(context.finish().as_ref()).chars().take(16).collect()
});

/// The folder of the files, as pages name it. One for all, so that modules find each other beside them.
pub(super) fn folder() -> String {
    format!("/static/{}", *VERSION)
}

/// `GET /static/{version}/{name}`: open to all, since it is the same on every server of this version.
pub(in crate::rest) fn file(call: &Call<'_>) -> Result<Reply, Error> {
    let name = call.param(1);
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Err(Error::new(Fault::NotFound, "There is no such file on this server."));
    };
    // A page of another version of the program gets what there is, and must not keep it under that name.
    let caching = if call.param(0) == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let reply = Reply {
        status: 200,
        content_type: Some(asset.content_type),
        headers: Vec::new(),
        body: asset.bytes.to_vec(),
        length: None,
    };
    Ok(reply
        .header("Cache-Control", caching)
        .header("Cross-Origin-Resource-Policy", "same-origin")
        // Caches that several people share keep it, so it carries no cookie and depends on none.
        .header("Vary", "Accept-Encoding"))
}
