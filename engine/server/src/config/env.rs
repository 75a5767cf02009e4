//! Environment variables that begin like ours and are not.

/// Whether `variable` was put there by Kubernetes (or Docker links) for a service whose name begins with
/// `shardcast`: `SHARDCAST_SERVICE_HOST`, `SHARDCAST_REDIS_PORT_6379_TCP_ADDR`, ... Each pod gets a set of these
/// for every service of its namespace, so refusing them would keep the server from starting there.
///
/// Source: Kubernetes, "Discovering services", environment variables.
pub(super) fn foreign(variable: &str, value: &str) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // ..._PORT_<number>_<protocol>[_PROTO|_PORT|_ADDR]
    let link = variable.split("_PORT_").skip(1).any(|rest| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(is_port) && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    if link || variable.ends_with("_SERVICE_HOST") || variable.ends_with("_SERVICE_PORT") {
        return true;
    }
    if variable.ends_with("_PORT") {
        return value.contains("://");
    }
    variable.contains("_SERVICE_PORT_") && is_port(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_kubernetes_services_are_told_from_misspelt_keys() {
        let cases = [
            ("SHARDCAST_SERVICE_HOST", "10.0.0.1", true),
            ("SHARDCAST_SERVICE_PORT", "8080", true),
            ("SHARDCAST_SERVICE_PORT_HTTP", "8080", true),
            ("SHARDCAST_PORT", "tcp://10.0.0.1:8080", true),
            ("SHARDCAST_PORT_8080_TCP", "tcp://10.0.0.1:8080", true),
            ("SHARDCAST_PORT_8080_TCP_PROTO", "tcp", true),
            ("SHARDCAST_PORT_8080_TCP_PORT", "8080", true),
            ("SHARDCAST_PORT_8080_TCP_ADDR", "10.0.0.1", true),
            ("SHARDCAST_REDIS_SERVICE_HOST", "10.0.0.2", true),
            ("SHARDCAST_REDIS_PORT_6379_TCP_ADDR", "10.0.0.2", true),
            ("SHARDCAST_PORT", "8080", false),
            ("SHARDCAST_SERVER_PORT", "8080", false),
            ("SHARDCAST_SERVER_LISTEN", "tcp://10.0.0.1:8080", false),
            ("SHARDCAST_SERVICE_PORT_NAME", "http", false),
        ];
        for (variable, value, expected) in cases {
            assert_eq!(foreign(variable, value), expected, "{variable}={value}");
        }
    }
}
