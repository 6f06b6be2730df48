//! Shares: how many places callers have at the doors.
//!
//! A place is a varlink connection, which has one call at a time, or a call on the system bus, where
//! one client may have many under way. Both are counted together, so that a second door does not
//! double what one user may take.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use keyns_interfaces::{Error, ErrorKind};

use crate::authority::Account;

/// Places taken, by account.
#[derive(Debug, Default)]
pub struct Gate {
    open: RefCell<HashMap<Account, usize>>,
    sum: Cell<usize>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Rc<Gate>,
    account: Account,
}

impl Gate {
    /// Takes one of `total` places, of which each account has at most `per_uid`. As many are kept for
    /// root, since one user may have many uids (subuid(5)).
    ///
    /// # Errors
    /// [`ErrorKind::LimitReached`].
    pub fn enter(
        self: &Rc<Self>,
        account: Account,
        total: usize,
        per_uid: usize,
    ) -> Result<Place, Error> {
        let mut open = self.open.borrow_mut();
        let held = |account| open.get(&account).copied().unwrap_or(0);
        let mine = held(account);
        let (taken, places) = match account {
            Account::Root => (self.sum.get(), total),
            Account::Uid(_) => (
                self.sum.get().saturating_sub(held(Account::Root)),
                total.saturating_sub(per_uid),
            ),
        };
        let full = |message: String, limit: usize| {
            Error::new(ErrorKind::LimitReached, message)
                .cause(format!(
                    "at most {limit} are allowed; a call on the system bus counts as one"
                ))
                .hint("close connections that are not needed; root can use the admin socket")
        };
        if taken >= places {
            return Err(full("keynsd has too many connections".to_owned(), places));
        }
        if mine >= per_uid {
            let who = match account {
                Account::Root => "root".to_owned(),
                Account::Uid(uid) => format!("uid {uid}"),
            };
            return Err(full(format!("{who} has too many connections"), per_uid));
        }
        open.insert(account, mine + 1);
        self.sum.set(self.sum.get() + 1);
        Ok(Place {
            gate: Rc::clone(self),
            account,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open.borrow_mut();
        self.gate.sum.set(self.gate.sum.get().saturating_sub(1));
        match open.get_mut(&self.account) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.account);
            }
        }
    }
}
