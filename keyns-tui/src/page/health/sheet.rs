//! The page Health in lines.

use keyctl_ns::view;
use keyns_interfaces::containers::State;
use keyns_interfaces::manager::{Feature, Status};
use ratatui::style::Style;
use ratatui::text::{Line as Row, Span};

use super::Health;
use super::quota::{Gauge, Owner, owners};
use crate::app::shared::{Link, Shared, sentence};
use crate::dialog::help::wrap;
use crate::filter::{Field, Fields};
use crate::page::tree_view::pad;
use crate::text;

/// Users whose gauges are shown; whoever has more filters them.
const USERS: usize = 500;

struct Sheet<'a> {
    shared: &'a Shared,
    width: usize,
    rows: Vec<Row<'static>>,
}

impl Sheet<'_> {
    fn heading(&mut self, text: &str) {
        if !self.rows.is_empty() {
            self.rows.push(Row::default());
        }
        let text = text::fit(text, self.width);
        self.rows.push(Row::styled(text, self.shared.theme.heading));
    }

    /// A name, and a sentence in as many lines as it takes.
    fn fact(&mut self, name: &str, sentence: &str, style: Style) {
        let names = if self.width < 60 { 10 } else { 16 };
        let room = self.width.saturating_sub(names + 3).max(8);
        for (at, line) in wrap(sentence, room).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.rows.push(Row::from(vec![
                Span::styled(format!("  {} ", pad(name, names)), self.shared.theme.base),
                Span::styled(line, style),
            ]));
        }
    }

    /// A sentence.
    fn sentence(&mut self, sentence: &str, style: Style) {
        let lines = wrap(sentence, self.width.saturating_sub(2).max(8));
        let rows = lines
            .into_iter()
            .map(|it| Row::styled(format!("  {it}"), style));
        self.rows.extend(rows);
    }

    fn gauge(&mut self, name: &str, gauge: Gauge) {
        let theme = &self.shared.theme;
        let (names, cells) = match self.width {
            ..60 => (12, 6),
            60..110 => (24, 12),
            _ => (32, 40),
        };
        let style = match gauge.percent() {
            100.. => theme.bad,
            _ if gauge.word().is_empty() => theme.accent,
            _ => theme.warning,
        };
        let numbers = format!(
            " {:>3}% {} of {} {} {}",
            gauge.percent(),
            gauge.used,
            gauge.most,
            gauge.unit,
            gauge.word()
        );
        let room = self.width.saturating_sub(names + cells + 3);
        self.rows.push(Row::from(vec![
            Span::styled(format!("  {} ", pad(name, names)), theme.base),
            Span::styled(gauge.bar(cells), style),
            Span::styled(
                text::fit(numbers.trim_end(), room),
                style_of(gauge, self.shared),
            ),
        ]));
    }

    fn feature(&mut self, feature: &Feature) {
        let theme = &self.shared.theme;
        let style = match feature.enforcer.as_str() {
            "kernel" => theme.good,
            "advisory" => theme.warning,
            "unavailable" => theme.faint,
            _ => theme.base,
        };
        let enforcer = text::line(&feature.enforcer, 11);
        let name = text::line(&feature.name, 40);
        let detail = text::line(&feature.detail, 400);
        if self.width < 80 {
            let line = format!("  {enforcer}: {name}");
            self.rows
                .push(Row::styled(text::fit(&line, self.width), style));
            for line in wrap(&detail, self.width.saturating_sub(4).max(8)) {
                self.rows
                    .push(Row::styled(format!("    {line}"), theme.faint));
            }
            return;
        }
        let lines = wrap(&detail, self.width.saturating_sub(44).max(20));
        for (at, line) in lines.into_iter().enumerate() {
            let (name, enforcer) = match at {
                0 => (name.as_str(), enforcer.as_str()),
                _ => ("", ""),
            };
            self.rows.push(Row::from(vec![
                Span::styled(format!("  {} ", pad(name, 28)), theme.base),
                Span::styled(format!("{} ", pad(enforcer, 11)), style),
                Span::styled(line, theme.base),
            ]));
        }
    }
}

fn style_of(gauge: Gauge, shared: &Shared) -> Style {
    match gauge.percent() {
        100.. => shared.theme.bad,
        _ if gauge.word().is_empty() => shared.theme.base,
        _ => shared.theme.warning,
    }
}

impl Fields for Feature {
    fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
        tell(Field::Description, &self.name);
        tell(Field::Description, &self.detail);
        tell(Field::State, &self.enforcer);
        tell(Field::Handler, &self.enforcer);
    }
}

impl Health {
    /// All of it, in lines of this width.
    pub(super) fn sheet(&self, shared: &Shared, width: usize) -> Vec<Row<'static>> {
        let mut sheet = Sheet {
            shared,
            width,
            rows: Vec::new(),
        };
        let owners = owners(&self.users, &self.containers);
        if self.filter.is_empty() {
            self.daemon(&mut sheet);
            self.hit(&mut sheet, &owners);
        }
        self.quotas(&mut sheet, &owners);
        self.features(&mut sheet);
        sheet.rows
    }

    fn daemon(&self, sheet: &mut Sheet<'_>) {
        let theme = &sheet.shared.theme;
        let (base, good, bad, warning) = (theme.base, theme.good, theme.bad, theme.warning);
        sheet.heading("Daemon");
        match &sheet.shared.link {
            Link::Connecting => sheet.fact("state", "connecting …", base),
            Link::Up(status) => {
                sheet.fact("state", "answers", good);
                self.status(sheet, self.status.as_ref().unwrap_or(status));
            }
            Link::Stale { since_ms, failure } => {
                let clock = view::clock(*since_ms);
                let clock = clock.get(..8).unwrap_or(&clock).to_owned();
                let text = format!(
                    "stale since {clock}, connecting again: {}",
                    sentence(failure)
                );
                sheet.fact("state", &text, bad);
            }
            Link::Absent(failure) => {
                let text = format!(
                    "none to be asked, so this is what the kernel tells: {}",
                    sentence(failure)
                );
                sheet.fact("state", &text, warning);
            }
        }
        if let Some(release) = self.machine.as_ref().and_then(|it| it.release.as_ref()) {
            sheet.fact("kernel", &text::line(release, 80), base);
        }
        if let Some(limits) = self.machine.as_ref().and_then(|it| it.limits.as_ref()) {
            let text = format!(
                "{} keys and {} bytes for each user, {} and {} for root; what was revoked or has \
                 expired counts for {} more",
                limits.max_keys,
                limits.max_bytes,
                limits.root_max_keys,
                limits.root_max_bytes,
                view::seconds(limits.gc_delay.as_secs())
            );
            sheet.fact("key limits", &text, base);
        }
    }

    fn status(&self, sheet: &mut Sheet<'_>, status: &Status) {
        let base = sheet.shared.theme.base;
        let version = format!(
            "{}, engine {}, instance {}",
            text::line(&status.version, 32),
            text::line(&status.engine, 16),
            text::line(&status.instance, 40)
        );
        sheet.fact("version", &version, base);
        let runs = match self.uptime(sheet.shared.now.since_start) {
            Some(seconds @ 0..60) => format!(", running for {}", view::seconds(seconds)),
            Some(seconds) => format!(", running for {}", view::seconds(seconds / 60 * 60)),
            None => String::new(),
        };
        sheet.fact("process", &format!("pid {}{runs}", status.pid), base);
        let work = format!(
            "containers: {}, requests waiting: {}, agents: {}",
            status.containers, status.pending_upcalls, status.agents
        );
        sheet.fact("work", &work, base);
        let poll = match status.poll_interval_ms {
            0 => "not needed: no granted key must be looked at".to_owned(),
            ms => format!("looks at granted keys every {}", view::milliseconds(ms)),
        };
        sheet.fact("polling", &poll, base);
    }

    /// The limits that are hit, or nearly.
    fn hit(&self, sheet: &mut Sheet<'_>, owners: &[Owner]) {
        sheet.heading("Limits hit");
        let (bad, warning) = (sheet.shared.theme.bad, sheet.shared.theme.warning);
        let before = sheet.rows.len();
        for owner in owners {
            for gauge in owner.gauges() {
                let style = match gauge.percent() {
                    100.. => bad,
                    _ if gauge.word().is_empty() => continue,
                    _ => warning,
                };
                let name = owner.name(sheet.shared);
                let text = format!(
                    "{name}: {} {}: {} of {}",
                    gauge.unit,
                    gauge.word(),
                    gauge.used,
                    gauge.most
                );
                sheet.sentence(&text, style);
            }
        }
        for text in self.limits.sentences() {
            sheet.sentence(&text, warning);
        }
        if sheet.rows.len() == before {
            sheet.sentence("none", sheet.shared.theme.good);
        }
    }

    fn quotas(&self, sheet: &mut Sheet<'_>, owners: &[Owner]) {
        let faint = sheet.shared.theme.faint;
        if let Some(failure) = &self.failure {
            sheet.heading("Quota");
            sheet.sentence(&sentence(failure), sheet.shared.theme.bad);
            return;
        }
        let wanted = owners.iter().filter(|it| self.filter.wants(*it));
        // Users whose keys all count for somebody else tell nothing, unless they are asked for.
        let (wanted, idle): (Vec<&Owner>, Vec<&Owner>) =
            wanted.partition(|it| it.is_charged() || !self.filter.is_empty());
        let mut last = None;
        for owner in wanted.iter().take(USERS) {
            let container = owner.container.as_ref().map(|(name, _)| name);
            if last != Some(container) {
                last = Some(container);
                self.place(sheet, container, owners);
            }
            let name = owner.name(sheet.shared);
            for (at, gauge) in owner.gauges().into_iter().enumerate() {
                sheet.gauge(if at == 0 { &name } else { "" }, gauge);
            }
        }
        if !idle.is_empty() {
            let users = if idle.len() == 1 {
                "user has"
            } else {
                "users have"
            };
            let text = format!("{} more {users} no keys that count", idle.len());
            sheet.sentence(&text, faint);
        }
        if wanted.len() > USERS {
            let more = format!("{} more users; /owner:UID finds one", wanted.len() - USERS);
            sheet.sentence(&more, faint);
        }
        if !self.filter.is_empty() {
            return;
        }
        let living = self.containers.iter().filter(|it| it.state != State::Dead);
        for container in living {
            let name = &container.name;
            let has_users = |it: &Owner| it.container.as_ref().is_some_and(|(it, _)| it == name);
            if owners.iter().any(has_users) {
                continue;
            }
            sheet.heading(&format!("Quota in container {}", text::line(name, 60)));
            let why = match container.uid_base {
                Some(_) => "none of its users has a key",
                None => "its users are those of the host, and share their quotas",
            };
            sheet.sentence(why, faint);
        }
    }

    /// The heading of the users of a container, or of the host.
    fn place(&self, sheet: &mut Sheet<'_>, container: Option<&String>, owners: &[Owner]) {
        let is_there = |it: &&Owner| it.container.as_ref().map(|(name, _)| name) == container;
        let (mut keys, mut bytes, mut users) = (0_u64, 0_u64, 0_u64);
        for owner in owners.iter().filter(is_there) {
            users += 1;
            keys += u64::from(owner.user.charged_keys);
            bytes += u64::from(owner.user.charged_bytes);
        }
        let place = match container {
            Some(name) => format!("in container {}", text::line(name, 60)),
            None => "on the host".to_owned(),
        };
        let users = match users {
            1 => "1 user".to_owned(),
            users => format!("{users} users"),
        };
        sheet.heading(&format!(
            "Quota {place}: {users}, {keys} keys, {bytes} bytes"
        ));
    }

    fn features(&self, sheet: &mut Sheet<'_>) {
        let (features, whose) = match (&sheet.shared.link, self.features.is_empty()) {
            (Link::Up(_) | Link::Stale { .. }, false) => (&self.features, "kernel and engine"),
            _ => (&self.kernel, "the kernel alone"),
        };
        let wanted: Vec<&Feature> = features
            .iter()
            .filter(|it| self.filter.wants(*it))
            .collect();
        if wanted.is_empty() && !self.filter.is_empty() {
            return;
        }
        let count = |word: &str| wanted.iter().filter(|it| it.enforcer == word).count();
        let title = format!(
            "Features of {whose}: {} enforced by the kernel, {} by the daemon, {} by nobody, {} \
             unavailable",
            count("kernel"),
            count("daemon"),
            count("advisory"),
            count("unavailable")
        );
        sheet.heading("");
        sheet.rows.pop();
        for line in wrap(&title, sheet.width) {
            sheet
                .rows
                .push(Row::styled(line, sheet.shared.theme.heading));
        }
        for feature in wanted {
            sheet.feature(feature);
        }
    }
}
