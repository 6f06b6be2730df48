//! Drop keyrings of connections.

use std::rc::Rc;
use std::sync::Arc;

use keyns_interfaces::Error;
use keyns_sys::KeySerial;

use super::KeyBook;
use super::failure::key_error;
use crate::daemon::Daemon;
use crate::front::{ConnectionId, Context};

impl KeyBook {
    /// The drop keyring of the caller's connection, opened at the first call.
    pub(super) async fn lend(
        &self,
        daemon: &Rc<Daemon>,
        context: &Context,
    ) -> Result<KeySerial, Error> {
        let _turn = self.turn.lock().await;
        if let Some(open) = self.drop_of(context.connection) {
            return Ok(open);
        }
        let uid = context.caller.uid();
        let opened = self
            .work(move |keys| keys.open_drop(uid))
            .await
            .map_err(|error| key_error("open a drop keyring", &error))?;
        self.drops.borrow_mut().insert(context.connection, opened);
        let (daemon, connection) = (Rc::clone(daemon), context.connection);
        context.on_close(move || daemon.keys.close(connection));
        Ok(opened)
    }

    pub(super) fn drop_of(&self, connection: ConnectionId) -> Option<KeySerial> {
        self.drops.borrow().get(&connection).copied()
    }

    fn close(&self, connection: ConnectionId) {
        let Some(opened) = self.drops.borrow_mut().remove(&connection) else {
            return;
        };
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.keys().call(move |keys| keys.close_drop(opened)) {
                tracing::warn!(keyring = opened.raw(), %error, "a drop keyring is left");
            }
        });
    }
}
