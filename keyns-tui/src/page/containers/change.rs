//! What is done to containers, each time after a dialog that names the object.

use keyctl_ns::args::{self, NAMESPACES};
use keyns::name::ContainerPath;
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::{Namespace, Root, Shown, State};

use super::item::{ContainerItem, type_words};
use crate::action::Action;
use crate::app::shared::{Context, Tone};
use crate::client::{Named, NewRule, Request};
use crate::dialog::confirm::Confirm;
use crate::dialog::fields::Field;
use crate::dialog::form::Form;
use crate::dialog::subject::Subject;
use crate::dialog::target;
use crate::text;

/// Opens the dialog of the action for the row under the cursor; says whether it is one of these.
pub(super) fn ask(
    item: Option<&ContainerItem>,
    state: Option<State>,
    contents: Option<&Shown>,
    action: Action,
    context: &mut Context<'_>,
) -> bool {
    let done = match action {
        Action::Create => {
            create(item, context);
            Ok(())
        }
        Action::Shell => of_living(item, state).map(|container| {
            context.ask(Request::Shell(container));
        }),
        Action::Kill => of_living(item, state).map(|container| kill(container, contents, context)),
        Action::Remove => remove(item, state, context),
        Action::Intercept => {
            of_living(item, state).map(|container| intercept(container, item, context))
        }
        Action::Unintercept => unintercept(item, context),
        _ => return false,
    };
    if let Err(why) = done {
        context.shared.say(Tone::Plain, why);
    }
    true
}

fn of_living(item: Option<&ContainerItem>, state: Option<State>) -> Result<Named, &'static str> {
    let container = item
        .and_then(ContainerItem::container)
        .ok_or("there is no container under the cursor; n creates one")?;
    match state {
        Some(State::Created | State::Running) => Ok(container),
        _ => Err("the container is dead; D removes it"),
    }
}

fn quoted(container: &Named) -> String {
    format!("container “{}”", text::line(&container.name, 120))
}

fn kill(container: Named, contents: Option<&Shown>, context: &mut Context<'_>) {
    let living = contents.map(|shown| {
        let living = |it: &&_| -> bool {
            let process: &keyns_interfaces::containers::ProcessInfo = it;
            process.exit.is_none()
        };
        shown.processes.iter().filter(living).count()
    });
    let processes = match living {
        Some(1) => "Its process, and every process that it started,".to_owned(),
        Some(number @ 2..) => format!("Its {number} processes, and all that they started,"),
        _ => "Every process in it".to_owned(),
    };
    let consequence = format!(
        "{processes} is killed at once, waiting key requests are rejected, its keyring and all copies go, and containers nested in it end as well."
    );
    let question = format!("Kill {}?", quoted(&container));
    let requests = vec![Request::Kill(container.clone())];
    context.open(
        Confirm::new("Kill", question, consequence, requests).about(Subject::Container(container)),
    );
}

fn remove(
    item: Option<&ContainerItem>,
    state: Option<State>,
    context: &mut Context<'_>,
) -> Result<(), &'static str> {
    let container = item
        .and_then(ContainerItem::container)
        .ok_or("there is no container under the cursor")?;
    if !matches!(state, Some(State::Created | State::Dead)) {
        return Err("it is running; K kills it first");
    }
    let question = format!("Remove {}?", quoted(&container));
    let consequence = "The keys in its store are destroyed.";
    let requests = vec![Request::Remove(container)];
    context.open(Confirm::new("Remove", question, consequence, requests));
    Ok(())
}

const ROOTS: [&str; 4] = [
    "usr: the host's /usr, read-only",
    "empty",
    "copy of the host's mounts",
    "directory",
];

fn create(item: Option<&ContainerItem>, context: &mut Context<'_>) {
    let namespaces = NAMESPACES.map(|(_, name)| (name.to_owned(), true)).to_vec();
    let parent = item.and_then(ContainerItem::container);
    let intro = match &parent {
        Some(parent) => format!(
            "Nothing runs in a new container yet. To nest it, type {}.NAME",
            text::line(&parent.name, 60)
        ),
        None => "Nothing runs in a new container yet.".to_owned(),
    };
    let fields = vec![
        Field::text("name", "", "1 to 23 letters, digits, - and _"),
        Field::choice("root", ROOTS.map(str::to_owned).to_vec()),
        Field::text("directory", "", "of the host, only with root “directory”"),
        Field::checks("namespaces", namespaces),
    ];
    let build = |fields: &[Field]| {
        let [name, root, directory, namespaces] = fields else {
            return Err("the form is incomplete".to_owned());
        };
        let path: ContainerPath = match name.typed() {
            "" => return Err("a name is missing".to_owned()),
            typed => typed
                .parse()
                .map_err(|error: keyns::name::PathError| error.to_string())?,
        };
        let namespace = |at: usize| NAMESPACES.get(at).map(|(namespace, _)| *namespace);
        let namespaces: Vec<Namespace> = namespaces
            .ticked()
            .into_iter()
            .filter_map(namespace)
            .collect();
        let root = chosen_root(root.chosen(), directory.typed())?;
        if !namespaces.contains(&Namespace::Mount) && root != Root::Usr {
            return Err("a root of its own needs the namespace “mount”".to_owned());
        }
        Ok(Request::Create {
            name: path.to_string(),
            namespaces,
            root,
        })
    };
    context.open(Form::new(
        "Create a container",
        intro,
        fields,
        Box::new(build),
    ));
}

fn chosen_root(choice: usize, directory: &str) -> Result<Root, String> {
    match (choice, directory) {
        (3, "/") => Err("the host's own root cannot be one; choose copy".to_owned()),
        (3, path) if path.starts_with('/') => Ok(Root::Dir(ByteText(path.as_bytes().to_vec()))),
        (3, _) => Err("the directory is a path that begins with /".to_owned()),
        (_, path) if !path.is_empty() => {
            Err("a directory was typed: choose it as root, or empty the field".to_owned())
        }
        (0, _) => Ok(Root::Usr),
        (1, _) => Ok(Root::Empty),
        _ => Ok(Root::Copy),
    }
}

fn intercept(container: Named, item: Option<&ContainerItem>, context: &mut Context<'_>) {
    let intro = format!(
        "Who answers the key requests of {}? A rule for the same type is replaced.",
        quoted(&container)
    );
    let type_ = match item {
        Some(ContainerItem::Rule(_, rule)) => rule.type_.clone(),
        _ => "*".to_owned(),
    };
    let fields = vec![
        Field::text("type", &type_, "a type of key, or * for all other types"),
        target::field(&target::CHOICES),
        Field::text(
            "name",
            "",
            "queue (manual), agent, or error[:time] (ENOKEY:5s)",
        ),
        Field::text("deadline", "", "60s in a queue, 10s for agents; 1s to 60s"),
        Field::text("rate", "", "20 requests per second"),
        Field::text("pending", "", "16 waiting at once; 1 to 256"),
    ];
    let subject = Subject::Container(container.clone());
    let build = move |fields: &[Field]| {
        let [type_, to, name, deadline, rate, pending] = fields else {
            return Err("the form is incomplete".to_owned());
        };
        let type_ = args::key_type(type_.typed())?;
        let target = target::of(to, name)?;
        let deadline_ms = target::deadline(deadline)?;
        Ok(Request::Intercept(Box::new(NewRule {
            container: container.clone(),
            type_,
            target,
            deadline_ms,
            rate: number(rate.typed(), "the rate", u32::MAX)?,
            pending: number(pending.typed(), "the number waiting", 256)?,
        })))
    };
    context.open(Form::new("Intercept", intro, fields, Box::new(build)).about(subject));
}

fn number(typed: &str, what: &str, most: u32) -> Result<Option<u32>, String> {
    match typed {
        "" => Ok(None),
        typed => match typed.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(format!("{what} is a number from 1 to {most}")),
        },
    }
}

fn unintercept(
    item: Option<&ContainerItem>,
    context: &mut Context<'_>,
) -> Result<(), &'static str> {
    let Some(ContainerItem::Rule(container, rule)) = item else {
        return Err("put the cursor on a rule; Enter on its container shows them");
    };
    let question = format!(
        "Remove the rule of {} for {}?",
        quoted(container),
        type_words(&rule.type_)
    );
    let consequence = "Requests that wait because of it are still answered.";
    let requests = vec![Request::Unintercept {
        container: container.clone(),
        type_: rule.type_.clone(),
    }];
    context.open(
        Confirm::new("Remove a rule", question, consequence, requests)
            .about(Subject::Container(container.clone())),
    );
    Ok(())
}
