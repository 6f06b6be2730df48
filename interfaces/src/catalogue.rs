//! The list of all methods.

use crate::Method;

/// Calls a macro with the parameter types of all methods.
macro_rules! for_all_methods {
    ($then:ident) => {
        $then! {
            agents::Serve, agents::Complete, agents::Reject, agents::NotMine, agents::List,
            containers::Create, containers::List, containers::Show, containers::GetKeyring,
            containers::Run, containers::Exec, containers::OpenProcess, containers::Wait,
            containers::Kill, containers::Remove, containers::Subscribe,
            keys::Add, keys::Update, keys::Read, keys::Describe, keys::Invalidate, keys::List,
            keys::Lend, keys::GrantTo, keys::Ungrant, keys::GetAcl, keys::Move, keys::Subscribe,
            manager::GetStatus, manager::GetFeatures,
            upcalls::List, upcalls::Query, upcalls::Answer, upcalls::Reroute, upcalls::Intercept,
            upcalls::ListRules, upcalls::Unintercept, upcalls::Subscribe
        }
    };
}
#[cfg(test)]
pub(crate) use for_all_methods;

macro_rules! entries {
    ($($module:ident::$method:ident),*) => {
        /// Every method of the contract.
        pub const METHODS: &[MethodEntry] = &[$(MethodEntry::of::<crate::$module::$method>()),*];
    };
}

/// A method of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodEntry {
    /// Interface and method.
    pub name: &'static str,
    /// Whether it is called with `more`.
    pub stream: bool,
}

impl MethodEntry {
    const fn of<M: Method>() -> Self {
        Self {
            name: M::NAME,
            stream: M::STREAM,
        }
    }
}

for_all_methods!(entries);
