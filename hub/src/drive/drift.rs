//! Monitors: which versions drift, where, and how far.

use std::collections::BTreeSet;

use bellwether_hub_core::Denied;
use bellwether_hub_core::drift::{Group, Key};

use super::denied::{model_name, model_ref};
use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{GroupQuery, MonitorDetail, MonitorQuery, MonitorView, Page};

impl Hub {
    /// The monitors of versions with a baseline, alerts first.
    ///
    /// # Errors
    ///
    /// 400 for a name that does not read.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn monitors(&self, caller: &Caller, query: MonitorQuery) -> Result<Page<MonitorView>, Problem> {
        let model = query.model.as_deref().map(model_name).transpose()?;
        let rules = self.rules();
        let judged = rules.monitors().map(|monitor| &monitor.key);
        let open = rules.windows().map(|window| &window.key);
        let keys: BTreeSet<&Key> = judged.chain(open).collect();
        let fits = |key: &&Key| {
            caller.covers(key.model.name.as_str())
                && model.as_ref().is_none_or(|name| key.model.name == *name)
                && query.version.is_none_or(|version| key.model.version.number() == version)
                && query.site.as_ref().is_none_or(|site| key.group == Group::Site(site.clone()))
                && (query.all == Some(true) || rules.devices().any(|device| view::runs(device, key)))
        };
        let mut items: Vec<MonitorView> =
            keys.into_iter().filter(fits).filter_map(|key| view::monitor(&rules, key)).collect();
        items.sort_by(|a, b| {
            let order = |view: &MonitorView| (view.state, view.model.clone(), std::cmp::Reverse(view.version));
            order(a).cmp(&order(b)).then_with(|| a.site.cmp(&b.site))
        });
        Ok(Page::whole(items))
    }

    /// One monitor, with the histograms of every column.
    ///
    /// # Errors
    ///
    /// 404 `no_version`, or `no_baseline` if the version came without one.
    pub fn monitor(
        &self,
        _caller: &Caller,
        name: &str,
        version: u32,
        query: GroupQuery,
    ) -> Result<MonitorDetail, Problem> {
        let model = model_ref(name, version)?;
        let rules = self.rules();
        rules.version(&model).map_err(Problem::from)?;
        let key = Key { model, group: query.site.map_or(Group::Fleet, Group::Site) };
        view::monitor_detail(&rules, &key).ok_or_else(|| no_baseline(&key))
    }
}

fn no_baseline(key: &Key) -> Problem {
    let denied =
        Denied::NotNow { action: "show drift", why: format!("{} was registered without a baseline", key.model) };
    Problem::not_found("no_baseline", denied.to_string()).hint(
        "register a version with one: bellwether model register NAME FILE --baseline SAMPLE.csv --held-out ROWS.csv",
    )
}
