//! multi: all or nothing.

use super::{Answer, MultiAnswer, check, create, delete, set_data};
use crate::commit::draft::Draft;
use crate::jute::{ErrorCode, MultiOp, op};

/// On failure one code for each operation, as ZooKeeper lists them: Ok before the one that failed,
/// RuntimeInconsistency after it.
pub fn multi(draft: &mut Draft<'_>, ops: &[MultiOp]) -> Answer {
    let mut answers = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let Ok(index) = u16::try_from(at) else {
            return failed(ops.len(), at, ErrorCode::BadArguments);
        };
        draft.place.index = index;
        match one(draft, op) {
            Ok(answer) => answers.push(answer),
            Err(error) => return failed(ops.len(), at, error),
        }
    }
    Answer::Multi(answers)
}

fn one(draft: &mut Draft<'_>, op: &MultiOp) -> Result<MultiAnswer, ErrorCode> {
    match op {
        MultiOp::Create(request) => {
            let (path, stat) = create::create(draft, request)?;
            Ok(if request.op == op::CREATE { MultiAnswer::Create(path) } else { MultiAnswer::Create2(path, stat) })
        }
        MultiOp::Delete { path, version } => delete::delete(draft, path, *version).map(|()| MultiAnswer::Delete),
        MultiOp::SetData { path, data, version } => {
            set_data::set_data(draft, path, data.clone(), *version).map(MultiAnswer::SetData)
        }
        MultiOp::Check { path, version } => check::check(draft, path, *version).map(|()| MultiAnswer::Check),
    }
}

/// The codes of a multi of `count` operations of which the one at `at` failed.
pub fn failed(count: usize, at: usize, error: ErrorCode) -> Answer {
    let code = |i: usize| match i.cmp(&at) {
        std::cmp::Ordering::Less => ErrorCode::Ok,
        std::cmp::Ordering::Equal => error,
        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency,
    };
    Answer::MultiFailed((0..count).map(code).collect())
}
