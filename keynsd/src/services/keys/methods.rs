//! The methods of `org.keyns.Keys`.

use std::rc::Rc;

use keyns::classic::acl_of;
use keyns::expression::Object;
use keyns::feature::Enforcer;
use keyns::mask::Mask;
use keyns_interfaces::keys::{
    Ace, Acl, Add, Describe, Drop, GetAcl, GrantTo, Granted, Invalidate, KeyReply, Lend, List,
    Listing, Move, Read, ReadReply, Subscribe, Ungrant, Ungranted, Update,
};
use keyns_interfaces::{Empty, Error};

use super::describe::{key_info, names};
use super::resolve::no_such_key;
use crate::authority::Policy;
use crate::daemon::Daemon;
use crate::events::Topic;
use crate::front::{Context, Reply, Router};
use keyns::engine::keyring::Home;

/// Adds the methods of `org.keyns.Keys`.
pub fn register(router: &mut Router<Daemon>) {
    use Policy::{ChangesKeysOrContainers as Changes, SeesOthersKeys as Sees};

    router
        .method(Changes, on_add)
        .method(Changes, on_update)
        // A payload is more than what is seen in a listing.
        .method(Changes, on_read)
        .method(Sees, on_describe)
        .method(Changes, on_invalidate)
        .method(Sees, on_list)
        .method(Changes, on_lend)
        .method(Changes, on_grant)
        .method(Changes, on_ungrant)
        .method(Sees, on_acl)
        .method(Changes, on_move)
        .stream::<Subscribe, _, _>(Sees, |daemon, _, _, sender| async move {
            daemon.bus.forward(Topic::Keys, sender).await
        });
}

async fn on_add(daemon: Rc<Daemon>, _: Context, call: Add) -> Result<Reply<KeyReply>, Error> {
    Ok(KeyReply {
        key: daemon.keys.add(&daemon, call).await?,
    }
    .into())
}

async fn on_update(daemon: Rc<Daemon>, _: Context, call: Update) -> Result<Reply<KeyReply>, Error> {
    Ok(KeyReply {
        key: daemon.keys.update(&daemon, call).await?,
    }
    .into())
}

async fn on_read(daemon: Rc<Daemon>, _: Context, call: Read) -> Result<Reply<ReadReply>, Error> {
    Ok(ReadReply {
        payload: daemon.keys.read(&daemon, call).await?,
    }
    .into())
}

async fn on_describe(
    daemon: Rc<Daemon>,
    _: Context,
    call: Describe,
) -> Result<Reply<KeyReply>, Error> {
    let wanted = daemon.keys.known(&daemon, &call.key)?.serial();
    let found = daemon
        .keys
        .current(|source| source.serial() == wanted)
        .await?;
    let source = found.first().ok_or_else(|| no_such_key(&call.key))?;
    Ok(KeyReply {
        key: key_info(&daemon, source),
    }
    .into())
}

async fn on_invalidate(
    daemon: Rc<Daemon>,
    _: Context,
    call: Invalidate,
) -> Result<Reply<Empty>, Error> {
    daemon.keys.invalidate(&daemon, call).await?;
    Ok(Empty {}.into())
}

async fn on_list(daemon: Rc<Daemon>, _: Context, call: List) -> Result<Reply<Listing>, Error> {
    let keys = match call.container {
        Some(name) => {
            let id = daemon.containers.resolve(&name)?.id;
            daemon.keys.keys_of(&daemon, id).await?
        }
        None => daemon.keys.all_keys(&daemon).await?,
    };
    Ok(Listing { keys }.into())
}

async fn on_lend(daemon: Rc<Daemon>, context: Context, _: Lend) -> Result<Reply<Drop>, Error> {
    let keyring = daemon.keys.lend(&daemon, &context).await?.raw();
    Ok(Drop { keyring }.into())
}

async fn on_grant(
    daemon: Rc<Daemon>,
    context: Context,
    call: GrantTo,
) -> Result<Reply<Granted>, Error> {
    Ok(daemon.keys.grant(&daemon, &context, call).await?.into())
}

async fn on_ungrant(
    daemon: Rc<Daemon>,
    _: Context,
    call: Ungrant,
) -> Result<Reply<Ungranted>, Error> {
    Ok(daemon.keys.ungrant(&daemon, call).await?.into())
}

async fn on_acl(daemon: Rc<Daemon>, _: Context, call: GetAcl) -> Result<Reply<Acl>, Error> {
    let wanted = daemon.keys.known(&daemon, &call.key)?.serial();
    let found = daemon
        .keys
        .current(|source| source.serial() == wanted)
        .await?;
    let source = found.first().ok_or_else(|| no_such_key(&call.key))?;
    let key = key_info(&daemon, source);
    let mask = Mask::from_raw(key.mask).unwrap_or(Mask::NONE);
    let mut entries: Vec<Ace> = acl_of(mask, Object::Key)
        .iter()
        .map(|ace| Ace {
            subject: ace.subject.to_string(),
            rights: names(ace.rights()),
            implied: Vec::new(),
            enforcer: ace.enforced_by.to_string(),
        })
        .collect();
    entries.extend(key.grants.iter().map(|grant| Ace {
        subject: format!("container:{}", grant.container),
        rights: grant.kernel.clone(),
        implied: grant.implied.clone(),
        enforcer: Enforcer::Kernel.to_string(),
    }));
    let lent = source.key.home == Home::Lent;
    Ok(Acl { key, entries, lent }.into())
}

async fn on_move(daemon: Rc<Daemon>, _: Context, call: Move) -> Result<Reply<KeyReply>, Error> {
    Ok(KeyReply {
        key: daemon.keys.move_key(&daemon, call).await?,
    }
    .into())
}
