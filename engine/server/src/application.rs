//! The hooks of the binary: the policy of the configuration, and the application's webhooks before it.

use std::sync::Arc;

use crate::config::Config;
use crate::hooks::Hooks;
use crate::outbound::post::OutboundError;
use crate::policy::Policy;
use crate::webhooks::Webhooks;

/// Whoever decides, as the configuration says.
pub struct Application {
    policy: Arc<Policy>,
    webhooks: Option<Arc<Webhooks>>,
}

impl Application {
    /// Of a configuration that was checked.
    ///
    /// # Errors
    /// When webhooks are to be sent by HTTPS and no client can be made.
    pub fn new(config: &Config) -> Result<Self, OutboundError> {
        let policy = Arc::new(Policy::new(config));
        let webhooks = Webhooks::new(config, policy.clone())?.map(Arc::new);
        Ok(Self { policy, webhooks })
    }

    /// For [`Server::start`](crate::threads::Server::start).
    pub fn hooks(&self) -> Arc<dyn Hooks> {
        match &self.webhooks {
            Some(webhooks) => webhooks.clone(),
            None => self.policy.clone(),
        }
    }

    /// Applies a reloaded configuration.
    pub fn reload(&self, config: &Config) {
        self.policy.reload(config);
        if let Some(webhooks) = &self.webhooks {
            webhooks.reload(config);
        }
    }
}
