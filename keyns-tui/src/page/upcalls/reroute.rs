//! The form that gives a waiting request to somebody else.

use keyns_interfaces::upcalls::UpcallInfo;

use crate::app::shared::Context;
use crate::client::{Asked, Request};
use crate::dialog::fields::Field;
use crate::dialog::form::Form;
use crate::dialog::subject::Subject;
use crate::dialog::target;
use crate::text;

/// Opens it.
pub(super) fn open(info: &UpcallInfo, context: &mut Context<'_>) {
    let intro = format!(
        "Who is to have request {} for {}: {}? Its rule stays as it is.",
        info.id,
        text::line(&info.type_, 31),
        text::line(info.description.bytes(), 160)
    );
    let fields = vec![
        // Rejecting it is an answer.
        target::field(target::CHOICES.get(..3).unwrap_or_default()),
        Field::text("name", "", "queue (manual), or agent"),
        Field::text("deadline", "", "as before, or more; 1s to 60s in all"),
    ];
    let request = Asked::from(info);
    let build = move |fields: &[Field]| {
        let [to, name, deadline] = fields else {
            return Err("the form is incomplete".to_owned());
        };
        Ok(Request::Reroute {
            request,
            target: target::of(to, name)?,
            deadline_ms: target::deadline(deadline)?,
        })
    };
    context.open(Form::new("Reroute", intro, fields, Box::new(build)).about(Subject::from(info)));
}
