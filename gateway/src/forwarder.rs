//! The box's name server: names that the policy does not allow do not exist, and nobody else hears of them. Answers are
//! remembered, since a connection is judged by the names that were told for its address.

use crate::denials::{Refused, Told};
use crate::dns::{self, Question};
use crate::policy::{Floor, Pins, Policy};
use crate::resolver::Asked;
use std::net::Ipv4Addr;

const IXFR: u16 = 251;
const AXFR: u16 = 252;
const ANY: u16 = 255;
/// What a guest keeps an address for at most (seconds): a change of the policy shows by then.
const MAX_TTL: u32 = 3_600;

fn refuse(told: &mut Told, question: &Question, reason: &'static str, address: Option<Ipv4Addr>) {
    told.refused(Refused {
        reason,
        protocol: "dns",
        name: Some(question.name.clone()),
        address,
        port: 0,
    });
}

/// What can be answered without asking anybody; None: the name may be asked for.
pub fn judge(policy: &Policy, told: &mut Told, question: &Question) -> Option<Vec<u8>> {
    told.questions += 1;
    if !policy.enabled {
        refuse(told, question, "disabled", None);
        return Some(question.answer_code(dns::REFUSED));
    }
    if matches!(question.kind, IXFR | AXFR | ANY) {
        refuse(told, question, "dns", None);
        return Some(question.answer_code(dns::REFUSED));
    }
    if !policy.open && !policy.allows_name(&question.name, None) {
        refuse(told, question, "name", None);
        return Some(question.answer_blocked());
    }
    // There is no IPv6 here yet, and what servers say of HTTP/3 and encrypted names would hide where a connection goes.
    if matches!(question.kind, dns::AAAA | dns::HTTPS | dns::SVCB) {
        return Some(question.answer_code(dns::NOERROR));
    }
    None
}

/// The answer that the guest gets for one that came from upstream.
pub fn finish<R>(
    policy: &Policy,
    floor: &Floor,
    pins: &mut Pins,
    told: &mut Told,
    asked: &Asked<R>,
) -> Vec<u8> {
    let question = &asked.question;
    // It may have changed meanwhile.
    if !policy.enabled || (!policy.open && !policy.allows_name(&question.name, None)) {
        return question.answer_blocked();
    }
    let (answer, message) = match &asked.answer {
        Some(answer) => answer,
        None => return question.answer_code(dns::SERVFAIL),
    };
    if question.kind != dns::A {
        return question.answer_as_it_is(message);
    }
    if answer.code != dns::NOERROR {
        return question.answer_code(answer.code);
    }
    let (kept, inside): (Vec<_>, Vec<_>) = answer
        .addresses
        .iter()
        .map(|(address, ttl)| (*address, (*ttl).min(MAX_TTL)))
        .partition(|(address, _)| policy.may_name(*address, floor));
    for (address, _) in &inside {
        refuse(told, question, "rebinding", Some(*address));
    }
    if kept.is_empty() && !inside.is_empty() {
        return question.answer_blocked();
    }
    for (address, _) in &kept {
        pins.add(*address, &question.name);
    }
    question.answer_addresses(&kept)
}
