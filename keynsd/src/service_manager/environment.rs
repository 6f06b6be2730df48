//! The variables by which a service manager speaks to a service (sd_listen_fds(3), sd_notify(3),
//! sd_watchdog_enabled(3)). They are not taken out of the environment, because no program that the
//! daemon starts inherits it.

use std::ffi::OsString;
use std::time::Duration;

/// Descriptors that a manager may hand over: three sockets, and a container for each place in the store
/// that the unit has it make.
const MOST_DESCRIPTORS: u16 = 1024;

/// What the environment says.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    /// `NOTIFY_SOCKET`
    pub notify_socket: Option<OsString>,
    /// `LISTEN_PID`
    pub listen_pid: Option<OsString>,
    /// `LISTEN_FDS`
    pub listen_fds: Option<OsString>,
    /// `LISTEN_FDNAMES`
    pub listen_fdnames: Option<OsString>,
    /// `WATCHDOG_USEC`
    pub watchdog_usec: Option<OsString>,
    /// `WATCHDOG_PID`
    pub watchdog_pid: Option<OsString>,
    /// `FDSTORE`
    pub fdstore: Option<OsString>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let value = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            notify_socket: value("NOTIFY_SOCKET"),
            listen_pid: value("LISTEN_PID"),
            listen_fds: value("LISTEN_FDS"),
            listen_fdnames: value("LISTEN_FDNAMES"),
            watchdog_usec: value("WATCHDOG_USEC"),
            watchdog_pid: value("WATCHDOG_PID"),
            fdstore: value("FDSTORE"),
        }
    }

    /// The names of the descriptors that are for the process `pid`, in their order from 3 on.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn descriptors(&self, pid: u32) -> Result<Vec<String>, String> {
        let (Some(to), Some(count)) = (&self.listen_pid, &self.listen_fds) else {
            return Ok(Vec::new());
        };
        // Those that are for another process stay as they are.
        if number::<u32>("LISTEN_PID", to)? != pid {
            return Ok(Vec::new());
        }
        let count: u16 = number("LISTEN_FDS", count)?;
        if count > MOST_DESCRIPTORS {
            return Err(format!(
                "LISTEN_FDS says {count}, and at most {MOST_DESCRIPTORS} descriptors are taken"
            ));
        }
        let Some(names) = &self.listen_fdnames else {
            return Ok(vec!["unknown".to_owned(); count.into()]);
        };
        let names: Vec<String> = names
            .to_string_lossy()
            .split(':')
            .map(str::to_owned)
            .collect();
        if names.len() != usize::from(count) {
            return Err(format!(
                "LISTEN_FDNAMES has {} names for {count} descriptors",
                names.len()
            ));
        }
        Ok(names)
    }

    /// How often the process `pid` has to show that it works.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn watchdog(&self, pid: u32) -> Result<Option<Duration>, String> {
        let Some(interval) = &self.watchdog_usec else {
            return Ok(None);
        };
        if let Some(to) = &self.watchdog_pid
            && number::<u32>("WATCHDOG_PID", to)? != pid
        {
            return Ok(None);
        }
        match number::<u64>("WATCHDOG_USEC", interval)? {
            0 => Err("WATCHDOG_USEC is 0".into()),
            interval => Ok(Some(Duration::from_micros(interval))),
        }
    }

    /// How many descriptors the manager keeps. systemd says it from version 254 on; the unit says it
    /// for older ones.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn store(&self) -> Result<usize, String> {
        match &self.fdstore {
            None => Ok(0),
            Some(most) => number::<u32>("FDSTORE", most).map(|most| most as usize),
        }
    }
}

fn number<N: std::str::FromStr>(variable: &str, value: &OsString) -> Result<N, String> {
    value
        .to_str()
        // What the standard library takes besides digits.
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            format!(
                "{variable} is “{}”, and no such number is possible",
                value.to_string_lossy().escape_debug()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(pid: &str, fds: &str, names: Option<&str>) -> Environment {
        Environment {
            listen_pid: Some(pid.into()),
            listen_fds: Some(fds.into()),
            listen_fdnames: names.map(Into::into),
            ..Environment::default()
        }
    }

    #[test]
    fn descriptors_are_taken_by_the_process_they_are_for() {
        assert_eq!(
            listening("7", "2", Some("varlink:admin")).descriptors(7),
            Ok(vec!["varlink".to_owned(), "admin".to_owned()])
        );
        assert_eq!(
            listening("7", "1", None).descriptors(7),
            Ok(vec!["unknown".into()])
        );
        assert_eq!(
            listening("8", "1", Some("varlink")).descriptors(7),
            Ok(vec![])
        );
        assert_eq!(Environment::default().descriptors(7), Ok(vec![]));
    }

    #[test]
    fn variables_that_make_no_sense_are_refused_by_name() {
        for (pid, fds, names, variable) in [
            ("seven", "1", None, "LISTEN_PID"),
            ("-7", "1", None, "LISTEN_PID"),
            ("7", "one", None, "LISTEN_FDS"),
            ("7", "-1", None, "LISTEN_FDS"),
            ("7", "+1", None, "LISTEN_FDS"),
            ("7", "1025", None, "LISTEN_FDS"),
            ("7", "99999999999", None, "LISTEN_FDS"),
            ("7", "2", Some("varlink"), "LISTEN_FDNAMES"),
            ("7", "1", Some("varlink:admin"), "LISTEN_FDNAMES"),
        ] {
            let error = listening(pid, fds, names).descriptors(7).unwrap_err();
            assert!(error.starts_with(variable), "{error}");
        }
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let watched = |usec: &str, pid: Option<&str>| Environment {
            watchdog_usec: Some(usec.into()),
            watchdog_pid: pid.map(Into::into),
            ..Environment::default()
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(watched("1000000", None).watchdog(7), Ok(second));
        assert_eq!(watched("1000000", Some("7")).watchdog(7), Ok(second));
        assert_eq!(watched("1000000", Some("8")).watchdog(7), Ok(None));
        for broken in ["0", "-1", "soon", "99999999999999999999"] {
            assert!(watched(broken, None).watchdog(7).is_err(), "{broken}");
        }
    }
}
