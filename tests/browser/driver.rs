//! A headless Chromium behind chromedriver, with a profile of its own, gone when dropped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_tests::files::tool;
use bellwether_tests::hub::folder;
use bellwether_tests::mosquitto::free_port;
use bellwether_tests::wait::{wait_for, wait_until};
use bellwether_tests::{Hub, Process};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What Chromium is told (FACTS of the design: as root, in a container, without a network).
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=1280,900",
];

/// A browser at one hub.
pub(crate) struct Browser {
    pub(crate) page: Client,
    hub: String,
    session: String,
    port: u16,
    profile: TempDir,
    // Last, so that the session is still there when it is dropped.
    _driver: Process,
}

impl Browser {
    /// Opens a browser.
    pub(crate) async fn open(hub: &Hub) -> Self {
        Self::open_with(&hub.url, &[], json!({})).await
    }

    /// Opens a browser that knows the hub by another name: as from another machine, without TLS.
    pub(crate) async fn elsewhere(hub: &Hub, name: &str) -> Self {
        let url = hub.url.replace("127.0.0.1", name);
        assert!(url.contains(name), "the hub listens on 127.0.0.1: {}", hub.url);
        Self::open_with(&url, &[format!("--host-resolver-rules=MAP {name} 127.0.0.1")], json!({})).await
    }

    /// Opens a browser in which no page may run a script.
    pub(crate) async fn without_scripts(hub: &Hub) -> Self {
        Self::open_with(&hub.url, &[], json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn open_with(hub: &str, more: &[String], preferences: Value) -> Self {
        let port = free_port();
        let profile = folder();
        let mut command = Command::new(tool("chromedriver", "chromium-driver"));
        let driver = Process::start("chromedriver", command.arg(format!("--port={port}")));
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        flags.extend_from_slice(more);
        let options = json!({ "binary": tool("chromium", "chromium"), "args": flags, "prefs": preferences });
        let wanted = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        let url = format!("http://127.0.0.1:{port}");
        let page = wait_for("chromedriver opens a browser", async || builder.connect(&url).await.ok()).await;
        let session = page.session_id().await.unwrap().unwrap();
        Self { page, hub: hub.to_owned(), session, port, profile, _driver: driver }
    }

    /// Goes to a page of the hub.
    pub(crate) async fn go(&self, path: &str) {
        self.page.goto(&format!("{}{path}", self.hub)).await.unwrap();
    }

    /// Logs in with the one-time code.
    pub(crate) async fn log_in(&self, code: &str) {
        self.go(&format!("/login?code={code}")).await;
        wait_until("the overview follows the login", async || self.path().await == "/").await;
    }

    /// Logs in by pasting a token.
    pub(crate) async fn log_in_with(&self, token: &str) {
        self.go("/login").await;
        self.find("input[name=token]").await.send_keys(token).await.unwrap();
        self.click("form button[type=submit]").await;
        wait_until("the overview follows the login", async || self.path().await == "/").await;
    }

    /// Path of the page.
    pub(crate) async fn path(&self) -> String {
        self.page.current_url().await.unwrap().path().to_owned()
    }

    /// The first element that fits.
    pub(crate) async fn find(&self, css: &str) -> fantoccini::elements::Element {
        let what = format!("the page has {css}");
        wait_for(&what, async || self.page.find(Locator::Css(css)).await.ok()).await
    }

    /// How many elements fit.
    pub(crate) async fn count(&self, css: &str) -> usize {
        self.page.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// Clicks the first element that fits.
    pub(crate) async fn click(&self, css: &str) {
        // A fragment may be replaced between finding and clicking; then nothing was clicked yet.
        wait_until(&format!("{css} can be clicked"), async || match self.find(css).await.click().await {
            Ok(()) => true,
            Err(why) if why.is_stale_element_reference() => false,
            Err(why) => panic!("{css} cannot be clicked: {why}"),
        })
        .await;
    }

    /// The text of the first element that fits, as a reader sees it.
    pub(crate) async fn text(&self, css: &str) -> String {
        // A fragment may be replaced between finding and reading it.
        wait_for(&format!("{css} can be read"), async || {
            self.page.find(Locator::Css(css)).await.ok()?.text().await.ok()
        })
        .await
    }

    /// Waits until the text of an element contains something.
    pub(crate) async fn until(&self, css: &str, text: &str) {
        wait_until(&format!("{css} says `{text}`"), async || self.text(css).await.contains(text)).await;
    }

    /// What a script in the page gives.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.page.execute(script, Vec::new()).await.unwrap()
    }

    /// Waits until the page is fed.
    pub(crate) async fn until_live(&self) {
        self.until("#link-word", "live").await;
        wait_until("the socket is open", async || {
            self.script("return document.getElementById('link-state').dataset.state").await == "on"
        })
        .await;
    }

    /// One call of the browser's own protocol.
    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/session/{}/goog/cdp/execute", self.port, self.session);
        let http = bellwether_tests::http::client();
        let body = json!({ "cmd": command, "params": parameters });
        http.post(url).json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// Photographs the page into `$BELLWETHER_SCREENSHOTS`, wide and narrow, light and dark.
    pub(crate) async fn photograph(&self, name: &str) {
        let Some(folder) = std::env::var_os("BELLWETHER_SCREENSHOTS") else { return };
        std::fs::create_dir_all(&folder).unwrap();
        for width in [1280, 390] {
            for scheme in ["light", "dark"] {
                let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                self.devtools("Emulation.setEmulatedMedia", feature).await;
                let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
                self.devtools("Emulation.setDeviceMetricsOverride", size).await;
                // Two frames, so that the new size is drawn.
                let drawn =
                    "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(1)))";
                self.page.execute_async(drawn, Vec::new()).await.unwrap();
                let taken = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
                let bytes = STANDARD.decode(taken["value"]["data"].as_str().unwrap_or_default()).unwrap();
                std::fs::write(Path::new(&folder).join(format!("{name}-{width}-{scheme}.png")), bytes).unwrap();
            }
        }
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [] })).await;
    }

    /// Widest content of the page at this width, in pixels: more than the width is a page that
    /// scrolls sideways.
    pub(crate) async fn content_width(&self, width: u32) -> u64 {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let content = self.script("return document.documentElement.scrollWidth").await.as_u64().unwrap();
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
        content
    }

    /// Closes the browser in good order.
    pub(crate) async fn close(self) {
        let closed = tokio::time::timeout(Duration::from_secs(10), self.page.clone().close()).await;
        assert!(closed.is_ok_and(|closed| closed.is_ok()), "the browser does not close");
    }
}

impl Drop for Browser {
    /// Ends, by their ids, the processes that have our profile on their command line: a killed
    /// chromedriver would leave them behind.
    fn drop(&mut self) {
        let profile = self.profile.path().to_string_lossy().into_owned();
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let id = process.file_name().to_string_lossy().into_owned();
            let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if is_number && String::from_utf8_lossy(&words).contains(&profile) {
                // It may be gone already, with its parent.
                let _ = Command::new("kill").args(["-KILL", &id]).stderr(std::process::Stdio::null()).status();
            }
        }
    }
}
