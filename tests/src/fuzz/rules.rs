//! Room rules with places for what a client is: `shardcast::auth::rules` and `shardcast::config::pattern`.

use shardcast::auth::Principal;
use shardcast::auth::rules::{Decision, Places, RoomRules};
use shardcast::config::pattern::Placeholder;
use shardcast::config::{Config, Effect, RoomTemplate, Rule};
use shardcast_wire::ignis::UserId;

use super::input::{Input, parts};

/// Bytes of a template or a room, as the reference needs their product, and of them all.
const TEXT_BYTES_MAX: usize = 200;
const TEMPLATES_MAX: usize = 6;
const PLACES: [(&str, Placeholder); 3] =
    [("{user}", Placeholder::User), ("{sub}", Placeholder::User), ("{tenant}", Placeholder::Tenant)];

/// Who somebody is, by what stands for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Person<'a> {
    user: &'a str,
    tenant: &'a str,
}

impl<'a> Person<'a> {
    fn value(self, place: Placeholder) -> &'a str {
        match place {
            Placeholder::User => self.user,
            Placeholder::Tenant => self.tenant,
        }
    }

    fn principal(self) -> Principal {
        let user = (!self.user.is_empty()).then(|| UserId::from_text(self.user));
        Principal { user, tenant: Some(self.tenant.to_owned()), ..Principal::default() }
    }
}

/// A part of a template: one that stands for itself, for a value, or for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Place(Placeholder),
    Star,
}

/// Effects of rules by its bits; then a room, two people, and templates, between zero bytes.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let effects = input.byte();
    let texts: Vec<_> = parts(input.rest()).take(5 + TEMPLATES_MAX).map(String::from_utf8_lossy).collect();
    let [room, user, tenant, other_user, other_tenant, templates @ ..] = texts.as_slice() else { return };
    if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
        return;
    }
    let people = [Person { user, tenant }, Person { user: other_user, tenant: other_tenant }];
    let mut rules = Vec::new();
    for (index, text) in templates.iter().enumerate() {
        let template = RoomTemplate::new(text);
        let reference = reference_parts(text);
        assert_eq!(template.is_some(), reference.is_some(), "{text:?} is a template");
        let (Some(template), Some(reference)) = (template, reference) else { continue };
        check_filled(&template, &reference, room, people);
        let effect = if effects >> index & 1 == 0 { Effect::Allow } else { Effect::Deny };
        rules.push((template, reference, effect));
    }
    people.into_iter().for_each(|person| check_rules(&rules, person, room));
}

/// A template's text, part by part.
fn reference_parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut found: Vec<Part<'_>> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let place = PLACES.iter().find(|(name, _)| rest.starts_with(name));
        let (part, len) = match (first, place) {
            (_, Some((name, place))) => (Part::Place(*place), name.len()),
            ('*', _) => (Part::Star, 1),
            ('{' | '}', _) => return None,
            (first, _) => (Part::Text(&rest[..first.len_utf8()]), first.len_utf8()),
        };
        if let (Some(Part::Place(_)), Part::Star | Part::Place(_)) | (Some(Part::Star), Part::Place(_)) =
            (found.last(), part)
        {
            return None;
        }
        found.push(part);
        rest = &rest[len..];
    }
    (!found.is_empty()).then_some(found)
}

/// Against a table of what matches what; `None` when a value is missing.
fn reference_matches(parts: &[Part<'_>], person: Person<'_>, room: &str) -> Option<bool> {
    // matched[n]: the parts so far match the first n bytes of the room.
    let mut matched = vec![false; room.len() + 1];
    matched[0] = true;
    for part in parts {
        let text = match part {
            Part::Text(text) => text,
            Part::Place(place) => Some(person.value(*place)).filter(|value| !value.is_empty())?,
            Part::Star => {
                let first = matched.iter().position(|is_matched| *is_matched).unwrap_or(matched.len());
                matched[first..].fill(true);
                continue;
            }
        };
        let at = |end: usize| end.checked_sub(text.len()).filter(|start| matched[*start]);
        let fits = |end: usize| at(end).is_some_and(|start| room.as_bytes()[start..end] == *text.as_bytes());
        matched = (0..=room.len()).map(fits).collect();
    }
    Some(matched[room.len()])
}

/// Values stand for themselves, whatever is in them; and who is let in by a place is one person.
fn check_filled(template: &RoomTemplate, parts: &[Part<'_>], room: &str, people: [Person<'_>; 2]) {
    let text = template.as_str();
    let lets_in = people.map(|person| {
        let expected = reference_matches(parts, person, room);
        let value = |place| Some(person.value(place));
        let loose = template.fill(false, value).map(|filled| filled.matches(room));
        assert_eq!(loose, expected, "{text:?} for {person:?} and {room:?}");
        let strict = template.fill(true, value).map(|filled| filled.matches(room));
        assert!(strict.is_none() || strict == expected, "{text:?} for {person:?} and {room:?}, strictly");
        let is_plain = parts.iter().filter(|part| !matches!(part, Part::Text(_))).count() <= 1;
        assert!(!is_plain || strict == expected, "{text:?} has nothing that a value could be mistaken for");
        strict == Some(true)
    });
    let place_of = |part: &Part<'_>| if let Part::Place(place) = part { Some(*place) } else { None };
    let first = |mut parts: std::slice::Iter<'_, Part<'_>>| parts.position(|part| *part == Part::Star);
    let places: Vec<usize> = (0..parts.len()).filter(|at| place_of(&parts[*at]).is_some()).collect();
    let (Some(first_place), Some(last_place)) = (places.first(), places.last()) else { return };
    let star = first(parts.iter());
    let last_star = parts.iter().rposition(|part| *part == Part::Star);
    // With stars on both sides of a place, a room has the value in more than one spot.
    let is_anchored =
        star.is_none_or(|star| star > *last_place) || last_star.is_none_or(|star| star < *first_place);
    if is_anchored && lets_in == [true, true] {
        for place in parts.iter().filter_map(place_of) {
            let [one, other] = people.map(|person| person.value(place));
            assert_eq!(one, other, "{text:?} lets two people into {room:?}");
        }
    }
}

/// All rules together: the first that fits decides, and nothing else lets anybody in.
fn check_rules(rules: &[(RoomTemplate, Vec<Part<'_>>, Effect)], person: Person<'_>, room: &str) {
    let mut config = Config::default();
    config.auth.rooms.clear();
    config.auth.rules = rules
        .iter()
        .map(|(template, _, effect)| Rule {
            rooms: vec![template.clone()],
            effect: *effect,
            ..Rule::default()
        })
        .collect();
    let principal = person.principal();
    let is_strict = |effect: Effect| effect == Effect::Allow;
    let value = |place| Some(person.value(place));
    let first = rules.iter().position(|(template, parts, effect)| {
        template.fill(is_strict(*effect), value).is_some()
            && reference_matches(parts, person, room) == Some(true)
    });
    let too_long = room.len() > config.limits.room_name_bytes_max;
    let expected = match first {
        _ if too_long => Decision::TooLong,
        Some(index) => Decision::Rule(index, rules[index].2),
        None => Decision::Nothing,
    };
    let all = RoomRules::new(&config);
    let places = Places::of(&principal);
    assert_eq!(all.own(&principal, &places, Effect::Deny).decide(room), expected, "{room:?} for {person:?}");
    let mut asked = vec![room.to_owned(); 2];
    all.retain(&principal, Effect::Deny, &mut asked);
    assert_eq!(asked.len(), if expected.allows() { 2 } else { 0 });
}
