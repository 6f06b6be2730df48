//! The commands: one file each, in the order of the help text.

pub mod acl;
pub mod add;
pub mod agent;
pub mod answer;
pub mod container;
pub mod demo;
pub mod describe;
pub mod doctor;
pub mod features;
pub mod grant;
pub mod intercept;
pub mod invalidate;
pub mod list;
pub mod move_key;
pub mod query;
pub mod read;
pub mod request;
pub mod tree;
pub mod ungrant;
pub mod unintercept;
pub mod upcalls;
pub mod update;
pub mod watch;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandError;

/// A command with its arguments.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments of each command document it")]
pub enum Command {
    Add(add::AddArgs),
    Update(update::UpdateArgs),
    Read(read::ReadArgs),
    Request(request::RequestArgs),
    Describe(describe::DescribeArgs),
    Invalidate(invalidate::InvalidateArgs),
    Move(move_key::MoveArgs),
    List(list::ListArgs),
    Tree(tree::TreeArgs),
    Grant(grant::GrantArgs),
    Ungrant(ungrant::UngrantArgs),
    Acl(acl::AclArgs),
    Container(container::ContainerArgs),
    Intercept(intercept::InterceptArgs),
    Unintercept(unintercept::UninterceptArgs),
    Upcalls(upcalls::UpcallsArgs),
    Query(query::QueryArgs),
    Answer(answer::AnswerArgs),
    Agent(agent::AgentArgs),
    Watch(watch::WatchArgs),
    Features(features::FeaturesArgs),
    Doctor(doctor::DoctorArgs),
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
        Command::Add(args) => add::run(context, &args),
        Command::Update(args) => update::run(context, &args),
        Command::Read(args) => read::run(context, &args),
        Command::Request(args) => request::run(context, &args),
        Command::Describe(args) => describe::run(context, &args),
        Command::Invalidate(args) => invalidate::run(context, &args),
        Command::Move(args) => move_key::run(context, &args),
        Command::List(args) => list::run(context, &args),
        Command::Tree(args) => tree::run(context, &args),
        Command::Grant(args) => grant::run(context, &args),
        Command::Ungrant(args) => ungrant::run(context, &args),
        Command::Acl(args) => acl::run(context, &args),
        Command::Intercept(args) => intercept::run(context, &args),
        Command::Unintercept(args) => unintercept::run(context, &args),
        Command::Upcalls(args) => upcalls::run(context, &args),
        Command::Query(args) => query::run(context, &args),
        Command::Answer(args) => answer::run(context, &args),
        Command::Agent(args) => agent::run(context, args),
        Command::Watch(args) => watch::run(context, &args),
        Command::Features(args) => features::run(context, &args),
        Command::Demo(args) => demo::run(context, &args),
    };
    done.map(|()| 0)
}
