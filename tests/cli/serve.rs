//! `moorline serve`, and verbs while it runs.

use std::time::Duration;

use serde_json::Value;

use super::rig::{Rig, wait_for};

#[test]
fn says_that_it_is_ready_in_one_exact_line() {
    let rig = Rig::empty();
    let server = rig.serve("");
    let line = server.said.lines().last().unwrap();
    assert_eq!(line, format!("ready url={} file=moorline.db", server.url));
    assert!(server.url.starts_with("http://127.0.0.1:") && !server.url.ends_with(":0"), "{}", server.url);
    let (status, body) = server.get("/api/v2/buildinfo");
    assert_eq!(status, 200);
    let info: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(info["dashboard_url"], server.url);
}

#[test]
fn makes_the_first_administrator_once() {
    let rig = Rig::empty();
    let mut server = rig.serve("");
    let field = |name: &str| {
        let line = server.said.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", server.said)).split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("user"), "admin");
    let (password, token) = (field("password"), field("token"));
    assert!(password.len() >= 16);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let me = agent.get(format!("{}/api/v2/users/me", server.url)).header("Coder-Session-Token", &token).call().unwrap();
    assert_eq!(me.status(), 200);
    let body = format!("{{\"email\":\"admin@localhost\",\"password\":\"{password}\"}}");
    let login = agent.post(format!("{}/api/v2/users/login", server.url)).send(&body).unwrap();
    assert_eq!(login.status(), 201);
    server.stop("TERM");
    let again = rig.serve("");
    assert_eq!(again.said.lines().count(), 1, "only the ready line: {}", again.said);
}

#[test]
fn json_output_is_one_document() {
    let rig = Rig::empty();
    let mut command = rig.command("serve --json --listen 127.0.0.1:0");
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert!(said["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(said["admin"]["name"], "admin");
}

#[test]
fn stops_cleanly_within_five_seconds() {
    for signal in ["TERM", "INT"] {
        let rig = Rig::empty();
        let mut server = rig.serve("");
        server.get("/api/v2/buildinfo");
        let (code, took) = server.stop(signal);
        assert_eq!(code, Some(0), "{}", server.log());
        assert!(took < Duration::from_secs(5), "{took:?}");
        let left: Vec<String> = std::fs::read_dir(rig.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sock") || name.ends_with("-wal"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn refuses_a_second_server_and_names_the_first() {
    let rig = Rig::empty();
    let server = rig.serve("");
    let said = rig.run("serve --listen 127.0.0.1:0");
    assert!(said.refused(1).contains(&server.pid().to_string()), "{}", said.err);
    assert_eq!(server.get("/api/v2/buildinfo").0, 200, "the first goes on");
    rig.run("user list").text();
}

#[test]
fn refuses_a_folder_that_does_not_exist() {
    let rig = Rig::empty();
    assert!(rig.run("serve --listen 127.0.0.1:0 --file typo/moorline.db").refused(1).contains("typo"));
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0);
}

#[test]
fn refuses_a_port_in_use() {
    let (one, other) = (Rig::empty(), Rig::empty());
    let server = one.serve("");
    let address = server.url.trim_start_matches("http://");
    assert!(other.run(&format!("serve --listen {address}")).refused(1).contains(address));
}

#[test]
fn verbs_work_while_it_runs() {
    let rig = Rig::empty();
    let mut server = rig.serve("");
    rig.run("user add alice --email alice@example.com").text();
    let said = rig.run("workspace add dev --owner alice");
    assert!(said.text().contains(&format!("CODER_AGENT_URL={} ", server.url)), "{}", said.out);
    let refusal = rig.run("workspace add dev --owner alice");
    assert!(refusal.refused(1).contains("There is a workspace alice/dev already."));
    let online = rig.run("workspace show alice/dev --json").json();
    let users = rig.run("user list --json").out;
    server.stop("TERM");
    assert_eq!(rig.run("workspace show alice/dev --json").json(), online, "the same without a server");
    assert_eq!(rig.run("user list --json").out, users);
}

#[test]
fn verbs_need_no_server_after_a_kill() {
    let rig = Rig::empty();
    let mut server = rig.serve("");
    rig.run("user add alice --email alice@example.com").text();
    server.stop("KILL");
    assert!(rig.path("moorline.db.admin.sock").exists(), "left over");
    assert!(rig.run("user list").text().contains("alice"));
    let again = rig.serve("");
    assert!(rig.run("user list").text().contains("alice"));
    drop(again);
}

#[test]
fn applies_a_thousand_workspaces_through_the_socket() {
    let rig = Rig::empty();
    let _server = rig.serve("");
    let mut text = String::from("[[user]]\nname = \"alice\"\nemail = \"alice@example.com\"\n");
    for index in 0..1_000 {
        text.push_str(&format!(
            "[[workspace]]\nowner = \"alice\"\nname = \"w{index}\"\n[[workspace.agent]]\nname = \"main\"\n\
             [[workspace.agent.script]]\ndisplay_name = \"Start\"\nrun_on_start = true\nscript = \"\"\"\n{}\"\"\"\n",
            "echo a line that makes it long\n".repeat(40)
        ));
    }
    rig.write("fleet.toml", &text);
    let made = rig.run("apply fleet.toml --json").json();
    assert_eq!(made["workspaces"].as_array().unwrap().len(), 1_000);
    assert_eq!(rig.run("apply fleet.toml --json").json()["changes"].as_array().unwrap().len(), 0);
    rig.write("bad.toml", "[[workspace]]\nowner = \"nobody\"\nname = \"x\"\n");
    assert!(rig.run("apply bad.toml").refused(1).contains("bad.toml:1: workspace[0].owner: there is no user `nobody`"));
}

#[test]
fn a_deep_folder_is_no_obstacle_for_the_sockets() {
    let rig = Rig::empty();
    let folder = (0..6).fold(String::new(), |path, _| path + "a-folder-with-a-long-name-of-its-own/");
    std::fs::create_dir_all(rig.path(&folder)).unwrap();
    let _server = rig.serve(&format!("--file {folder}moorline.db"));
    assert!(rig.run(&format!("user list --file {folder}moorline.db")).text().contains("admin"));
}

#[test]
fn metrics_have_a_port_of_their_own_when_configured() {
    let rig = Rig::empty();
    let server = rig.serve("--metrics-listen 127.0.0.1:0 --log-format json");
    let address = wait_for("the address of the metrics", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("/metrics"))?.to_owned();
        let entry: Value = serde_json::from_str(&line).ok()?;
        entry["message"].as_str()?.split("http://").nth(1)?.split('/').next().map(str::to_owned)
    });
    let text = ureq::get(format!("http://{address}/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(text.contains("moorline_") && text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_renewed_certificate_is_taken_on_hangup_and_a_bad_one_is_not() {
    let rig = Rig::empty();
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let put = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        rig.write("cert.pem", &made.cert.pem());
        rig.write("key.pem", &made.signing_key.serialize_pem());
    };
    put(&make());
    let mut server = rig.serve("--tls-cert cert.pem --tls-key key.pem");
    assert!(server.url.starts_with("https://"));
    rig.run("user list").text();
    put(&make());
    server.signal("HUP");
    wait_for("the new certificate", || server.log().contains("new TLS certificate is in use").then_some(()));
    rig.write("cert.pem", "broken");
    server.signal("HUP");
    wait_for("the refusal", || server.log().contains("the TLS certificate in use is kept").then_some(()));
    assert_eq!(server.stop("TERM").0, Some(0));
}

#[test]
fn relay_regions_are_read_again_on_hangup_and_a_bad_file_keeps_the_old_ones() {
    const REGION: &str = "[[derp_region]]\nid = 7\ncode = \"fra\"\nname = \"Frankfurt\"\n[[derp_region.node]]\nhost = \"derp.example.com\"\n";
    let rig = Rig::empty();
    rig.write("moorline.toml", REGION);
    let mut server = rig.serve("");
    let line = server.said.lines().find(|line| line.trim_start().starts_with("token")).unwrap();
    let token = line.split_whitespace().nth(1).unwrap().to_owned();
    let map = || {
        let url = format!("{}/api/v2/workspaceagents/connection", server.url);
        let text = ureq::get(url).header("Coder-Session-Token", &token).call().unwrap().body_mut().read_to_string();
        serde_json::from_str::<Value>(&text.unwrap()).unwrap()["derp_map"]["Regions"].clone()
    };
    assert_eq!(map()["7"]["Nodes"][0]["HostName"], "derp.example.com");
    for (text, why) in [("", "empty or gone"), ("[[derp_region]]\nid = 7\n", "missing field `code`")] {
        rig.write("moorline.toml", text);
        server.signal("HUP");
        wait_for("the refusal", || {
            let log = server.log();
            log.lines().any(|line| line.contains("regions in use are kept") && line.contains(why)).then_some(())
        });
    }
    assert_eq!(map()["7"]["RegionName"], "Frankfurt");
    rig.write("moorline.toml", &REGION.replace("derp.example", "other.example"));
    server.signal("HUP");
    wait_for("the new map", || (map()["7"]["Nodes"][0]["HostName"] == "other.example.com").then_some(()));
    assert_eq!(server.stop("TERM").0, Some(0));
}

#[test]
fn tells_the_service_manager() {
    let rig = Rig::empty();
    let path = rig.path("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(super::rig::PATIENCE)).unwrap();
    let mut command = rig.command("serve --listen 127.0.0.1:0");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let null = std::process::Stdio::null;
    let mut child = command.stdout(null()).stderr(null()).spawn().unwrap();
    let told = || {
        let mut buffer = [0_u8; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    assert_eq!(told(), "WATCHDOG=1");
    std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    wait_for("the goodbye", || (told() == "STOPPING=1").then_some(()));
    assert!(child.wait().unwrap().success());
}
