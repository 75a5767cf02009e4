//! Which Redis channel a topic is, and which names are none (`topic.md` §5, §8).

/// The placeholder of a prefix.
pub const TENANT: &str = "{tenant}";

/// Longest tenant that may stand in a channel's name, bytes.
const TENANT_BYTES_MAX: usize = 128;

/// What stands before the name of a topic in the name of its Redis channel: a text, in which the client's tenant may
/// stand once.
///
/// Invariant: two different pairs of tenant and topic are two different channels, since a tenant that is let in never
/// holds the byte that follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelPrefix {
    before: String,
    /// What follows the tenant, if there is one.
    after: Option<String>,
}

/// What is wrong with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// A `{` that begins no placeholder, or a second placeholder.
    #[error("it may contain {{tenant}} once and no other braces")]
    Placeholder,
    /// Nothing says where the tenant ends.
    #[error(
        "after {{tenant}} there must be a character other than letters, digits, - and _, as in t:{{tenant}}:"
    )]
    TenantEnd,
    /// Unprintable, or not ASCII.
    #[error("it must be printable ASCII without spaces")]
    Character,
}

impl ChannelPrefix {
    /// Reads a prefix as the configuration writes it.
    ///
    /// # Errors
    /// See [`PrefixError`].
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PrefixError::Character);
        }
        let (before, after) = match text.split_once(TENANT) {
            Some((before, after)) => (before, Some(after)),
            None => (text, None),
        };
        if [before, after.unwrap_or_default()].iter().any(|part| part.contains(['{', '}'])) {
            return Err(PrefixError::Placeholder);
        }
        if after.is_some_and(|after| after.bytes().next().is_none_or(is_tenant_byte)) {
            return Err(PrefixError::TenantEnd);
        }
        Ok(Self { before: before.to_owned(), after: after.map(str::to_owned) })
    }

    /// The channel of a client's topic. `None` where a tenant belongs into its name and the client has none that may
    /// stand there.
    pub fn channel(&self, tenant: Option<&str>, topic: &str) -> Option<String> {
        let Some(after) = &self.after else { return Some([&self.before, topic].concat()) };
        let is_usable = |tenant: &&str| {
            !tenant.is_empty() && tenant.len() <= TENANT_BYTES_MAX && tenant.bytes().all(is_tenant_byte)
        };
        let tenant = tenant.filter(is_usable)?;
        Some([&self.before, tenant, after, topic].concat())
    }

    /// The topic that a channel is, as its clients name it; `None` for a channel without this prefix.
    pub fn topic<'a>(&self, channel: &'a str) -> Option<&'a str> {
        let rest = channel.strip_prefix(&*self.before)?;
        let topic = match &self.after {
            None => rest,
            Some(after) => {
                let end = rest.bytes().position(|byte| !is_tenant_byte(byte))?;
                let (tenant, rest) = rest.split_at(end);
                rest.strip_prefix(&**after).filter(|_| (1..=TENANT_BYTES_MAX).contains(&tenant.len()))?
            }
        };
        (!topic.is_empty()).then_some(topic)
    }
}

fn is_tenant_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a client may name this topic: 1 to `bytes_max` bytes, without control characters. Glob characters are
/// literal.
pub fn is_name(topic: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&topic.len()) && !topic.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_lead_back_to_their_topics_and_to_no_other() {
        let cases = [
            ("", None, "chat", Some("chat")),
            ("", Some("acme"), "{chat}*", Some("{chat}*")),
            ("live:", None, "chat", Some("live:chat")),
            ("t:{tenant}:", Some("acme"), "a:b", Some("t:acme:a:b")),
            ("{tenant}/", Some("a_b"), "c", Some("a_b/c")),
            ("t:{tenant}:", None, "chat", None),
            ("t:{tenant}:", Some(""), "chat", None),
            ("t:{tenant}:", Some("acme:x"), "chat", None),
            ("t:{tenant}:", Some("ac\u{e9}"), "chat", None),
        ];
        for (prefix, tenant, topic, expected) in cases {
            let prefix = ChannelPrefix::parse(prefix).expect("good");
            let channel = prefix.channel(tenant, topic);
            assert_eq!(channel.as_deref(), expected, "{prefix:?} {tenant:?} {topic}");
            if let Some(channel) = channel {
                assert_eq!(prefix.topic(&channel), Some(topic));
            }
        }
        let prefix = ChannelPrefix::parse("t:{tenant}:").expect("good");
        for channel in ["", "t:", "t::chat", "t:acme", "t:acme:", "chat", "T:acme:chat"] {
            assert_eq!(prefix.topic(channel), None, "{channel}");
        }
    }

    #[test]
    fn prefixes_in_which_a_tenant_could_pose_as_another_are_refused() {
        for (text, expected) in [
            ("{tenant}", PrefixError::TenantEnd),
            ("t:{tenant}x:", PrefixError::TenantEnd),
            ("{tenant}-", PrefixError::TenantEnd),
            ("{tenant}:{tenant}:", PrefixError::Placeholder),
            ("{user}:", PrefixError::Placeholder),
            ("a b", PrefixError::Character),
            ("é:", PrefixError::Character),
            ("a\n", PrefixError::Character),
        ] {
            assert_eq!(ChannelPrefix::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn names_are_bounded_and_printable() {
        for (topic, is_good) in [
            ("chat", true),
            ("* ? [ ] {}:", true),
            ("e\u{301}", true),
            ("", false),
            ("a\nb", false),
            ("a\0", false),
            ("a\u{7f}", false),
            ("a\u{85}", false),
            ("12345678901", true),
            ("123456789012", false),
        ] {
            assert_eq!(is_name(topic, 11), is_good, "{topic:?}");
        }
    }
}
