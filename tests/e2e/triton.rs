//! The unmodified `tritonclient` of PyPI against an agent.

use std::process::Command;

use bellwether_tests::{Fleet, files};

#[tokio::test(flavor = "multi_thread")]
async fn the_unmodified_triton_client_scores_on_an_agent() {
    let python = files::venv_python();
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:2");
    let ran = Command::new(python)
        .arg(files::repository().join("tests/e2e/triton_client.py"))
        .arg(agent.url.trim_start_matches("http://"))
        .arg(files::data("digits-request.json"))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("all of it held"), "{said}");
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}
