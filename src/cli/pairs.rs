//! The worker's part in a comparison.

use super::worker::{alive, lose_device, send};
use crate::record::{Event, SideRequest, VisitRequest};
use crate::suite::{Item, Pairs, PreparedSide, Session, VisitError};

/// Prepares one side of a cell; false when the device is lost.
pub fn side(
    session: &mut Session,
    pairs: &mut Pairs,
    item: Option<&Item>,
    request: &SideRequest,
) -> bool {
    let Some(item) = item else {
        let message = format!("no cell {} in preset {}", request.id, request.preset);
        return send(&Event::Failed { code: 2, message });
    };
    lose_device(session, &format!("{}@{}", request.id, request.side.name()));
    let PreparedSide { row, dispatch_s, hash, lost } =
        session.prepare_side(pairs, item, request, &mut alive);
    send(&Event::Side { row: Box::new(row), dispatch_s, hash, lost }) && !lost
}

/// Takes samples of a cell; false when the device is lost.
pub fn visit(session: &Session, pairs: &mut Pairs, request: &VisitRequest) -> bool {
    match session.visit(pairs, request, &mut alive) {
        Ok((times, wrong)) => send(&Event::Visited { times, wrong }),
        Err(VisitError { side, reason, lost }) => {
            send(&Event::VisitFailed { side, reason, lost }) && !lost
        }
    }
}
