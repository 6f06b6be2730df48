//! The commands: one file each, in the order of the help text.

pub mod acl;
pub mod add;
pub mod agent;
pub mod answer;
pub mod chown;
pub mod clear;
pub mod container;
pub mod demo;
pub mod describe;
pub mod dh;
pub mod doctor;
pub mod features;
pub mod get_persistent;
pub mod grant;
pub mod id;
pub mod instantiate;
pub mod intercept;
pub mod invalidate;
pub mod link;
pub mod list;
pub mod move_key;
pub mod newring;
pub mod pkey;
pub mod print;
pub mod purge;
pub mod query;
pub mod raw;
pub mod read;
pub mod reap;
pub mod reject;
pub mod request;
pub mod reroute;
pub mod restrict_keyring;
pub mod revoke;
pub mod search;
pub mod security;
pub mod session;
pub mod setperm;
pub mod show;
pub mod supports;
pub mod timeout;
pub mod tree;
pub mod ungrant;
pub mod unintercept;
pub mod upcalls;
pub mod update;
pub mod watch;
pub mod watch_key;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandError;

/// A command with its arguments.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments of each command document it")]
pub enum Command {
    Add(add::AddArgs),
    Padd(add::PaddArgs),
    Newring(newring::NewringArgs),
    Update(update::UpdateArgs),
    Read(read::ReadArgs),
    Print(print::PrintArgs),
    Pipe(print::PipeArgs),
    Request(request::RequestArgs),
    Request2(request::Request2Args),
    Prequest2(request::Prequest2Args),
    Search(search::SearchArgs),
    Id(id::IdArgs),
    Describe(describe::DescribeArgs),
    Rdescribe(raw::RdescribeArgs),
    Security(security::SecurityArgs),
    Timeout(timeout::TimeoutArgs),
    Setperm(setperm::SetpermArgs),
    Chown(chown::ChownArgs),
    Chgrp(chown::ChgrpArgs),
    Revoke(revoke::RevokeArgs),
    Invalidate(invalidate::InvalidateArgs),
    Link(link::LinkArgs),
    Unlink(link::UnlinkArgs),
    Move(move_key::MoveArgs),
    Clear(clear::ClearArgs),
    Purge(purge::PurgeArgs),
    Reap(reap::ReapArgs),
    #[command(name = "restrict_keyring", alias = "restrict-keyring")]
    RestrictKeyring(restrict_keyring::RestrictKeyringArgs),
    #[command(name = "get_persistent", alias = "get-persistent")]
    GetPersistent(get_persistent::GetPersistentArgs),
    List(list::ListArgs),
    Rlist(raw::RlistArgs),
    Show(show::ShowArgs),
    Tree(tree::TreeArgs),
    Session(session::SessionArgs),
    #[command(name = "new_session", alias = "new-session")]
    NewSession(session::NewSessionArgs),
    #[command(name = "dh_compute", alias = "dh-compute")]
    DhCompute(dh::DhArgs),
    #[command(name = "dh_compute_kdf", alias = "dh-compute-kdf")]
    DhComputeKdf(dh::DhKdfArgs),
    #[command(name = "dh_compute_kdf_oi", alias = "dh-compute-kdf-oi")]
    DhComputeKdfOi(dh::DhKdfOiArgs),
    #[command(name = "pkey_query", alias = "pkey-query")]
    PkeyQuery(pkey::QueryArgs),
    #[command(name = "pkey_encrypt", alias = "pkey-encrypt")]
    PkeyEncrypt(pkey::EncryptArgs),
    #[command(name = "pkey_decrypt", alias = "pkey-decrypt")]
    PkeyDecrypt(pkey::DecryptArgs),
    #[command(name = "pkey_sign", alias = "pkey-sign")]
    PkeySign(pkey::SignArgs),
    #[command(name = "pkey_verify", alias = "pkey-verify")]
    PkeyVerify(pkey::VerifyArgs),
    Grant(grant::GrantArgs),
    Ungrant(ungrant::UngrantArgs),
    Acl(acl::AclArgs),
    Container(container::ContainerArgs),
    Intercept(intercept::InterceptArgs),
    Unintercept(unintercept::UninterceptArgs),
    Upcalls(upcalls::UpcallsArgs),
    Query(query::QueryArgs),
    Answer(answer::AnswerArgs),
    Reroute(reroute::RerouteArgs),
    Instantiate(instantiate::InstantiateArgs),
    Pinstantiate(instantiate::PinstantiateArgs),
    Negate(reject::NegateArgs),
    Reject(reject::RejectArgs),
    Agent(agent::AgentArgs),
    Watch(watch::WatchArgs),
    #[command(name = "watch_add", alias = "watch-add")]
    WatchAdd(watch_key::WatchAddArgs),
    #[command(name = "watch_rm", alias = "watch-rm")]
    WatchRm(watch_key::WatchRmArgs),
    #[command(name = "watch_sync", alias = "watch-sync")]
    WatchSync(watch_key::WatchSyncArgs),
    #[command(name = "watch_session", alias = "watch-session")]
    WatchSession(watch_key::WatchSessionArgs),
    Features(features::FeaturesArgs),
    Doctor(doctor::DoctorArgs),
    Supports(supports::SupportsArgs),
    Demo(demo::DemoArgs),
}

/// Runs a command. The exit code is that of a process it ran in a container, or says whether what
/// was examined would work, otherwise 0.
///
/// # Errors
/// Whatever kept the command from doing what it was asked to.
pub fn run(context: &Context, command: Command) -> Result<u8, CommandError> {
    let done = match command {
        Command::Container(args) => return container::run(context, args),
        Command::Doctor(args) => return doctor::run(context, &args),
        Command::WatchSession(args) => return watch_key::session(context, &args),
        Command::Add(args) => add::run(context, &args),
        Command::Padd(args) => add::padd(context, args),
        Command::Newring(args) => newring::run(context, args),
        Command::Update(args) => update::run(context, &args),
        Command::Read(args) => read::run(context, &args),
        Command::Print(args) => print::run(context, &args),
        Command::Pipe(args) => print::pipe(context, &args),
        Command::Request(args) => request::run(context, &args),
        Command::Request2(args) => request::request2(context, &args),
        Command::Prequest2(args) => request::prequest2(context, &args),
        Command::Search(args) => search::run(context, &args),
        Command::Id(args) => id::run(context, &args),
        Command::Describe(args) => describe::run(context, &args),
        Command::Rdescribe(args) => raw::describe(context, &args),
        Command::Security(args) => security::run(context, &args),
        Command::Timeout(args) => timeout::run(context, &args),
        Command::Setperm(args) => setperm::run(context, &args),
        Command::Chown(args) => chown::run(context, &args),
        Command::Chgrp(args) => chown::chgrp(context, &args),
        Command::Revoke(args) => revoke::run(context, &args),
        Command::Invalidate(args) => invalidate::run(context, &args),
        Command::Link(args) => link::run(context, &args),
        Command::Unlink(args) => link::unlink(context, &args),
        Command::Move(args) => move_key::run(context, &args),
        Command::Clear(args) => clear::run(context, &args),
        Command::Purge(args) => purge::run(context, &args),
        Command::Reap(args) => reap::run(context, &args),
        Command::RestrictKeyring(args) => restrict_keyring::run(context, &args),
        Command::GetPersistent(args) => get_persistent::run(context, &args),
        Command::List(args) => list::run(context, &args),
        Command::Rlist(args) => raw::list(context, &args),
        Command::Show(args) => show::run(context, &args),
        Command::Tree(args) => tree::run(context, &args),
        Command::Session(args) => session::run(context, &args),
        Command::NewSession(args) => session::new_session(context, &args),
        Command::DhCompute(args) => dh::run(context, &args),
        Command::DhComputeKdf(args) => dh::kdf(context, &args),
        Command::DhComputeKdfOi(args) => dh::kdf_oi(context, &args),
        Command::PkeyQuery(args) => pkey::query(context, &args),
        Command::PkeyEncrypt(args) => pkey::encrypt(context, &args),
        Command::PkeyDecrypt(args) => pkey::decrypt(context, &args),
        Command::PkeySign(args) => pkey::sign(context, &args),
        Command::PkeyVerify(args) => pkey::verify(context, &args),
        Command::Grant(args) => grant::run(context, &args),
        Command::Ungrant(args) => ungrant::run(context, &args),
        Command::Acl(args) => acl::run(context, &args),
        Command::Intercept(args) => intercept::run(context, &args),
        Command::Unintercept(args) => unintercept::run(context, &args),
        Command::Upcalls(args) => upcalls::run(context, &args),
        Command::Query(args) => query::run(context, &args),
        Command::Answer(args) => answer::run(context, &args),
        Command::Reroute(args) => reroute::run(context, &args),
        Command::Instantiate(args) => instantiate::run(context, &args),
        Command::Pinstantiate(args) => instantiate::pinstantiate(context, &args),
        Command::Negate(args) => reject::negate(context, &args),
        Command::Reject(args) => reject::run(context, &args),
        Command::Agent(args) => agent::run(context, args),
        Command::Watch(args) => watch::run(context, &args),
        Command::WatchAdd(args) => watch_key::add(context, &args),
        Command::WatchRm(args) => watch_key::remove(context, &args),
        Command::WatchSync(args) => watch_key::sync(context, &args),
        Command::Features(args) => features::run(context, &args),
        Command::Supports(args) => supports::run(context, &args),
        Command::Demo(args) => demo::run(context, &args),
    };
    done.map(|()| 0)
}
