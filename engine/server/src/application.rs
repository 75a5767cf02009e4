//! The hooks of the binary: the policy of the configuration, and the application's webhooks before it.

use std::sync::Arc;

use crate::config::Config;
use crate::hooks::Hooks;
use crate::outbound::post::OutboundError;
use crate::policy::Policy;
use crate::webhooks::Webhooks;
use crate::webhooks::link::Terms;

/// Whoever decides, as the configuration says.
pub struct Application {
    policy: Arc<Policy>,
    webhooks: Option<Arc<Webhooks>>,
}

/// What of a reloaded configuration can fail to be made.
pub struct Prepared(Option<Terms>);

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

    /// Makes ready what a reloaded configuration changes, and changes nothing.
    ///
    /// # Errors
    /// When webhooks are to be sent by HTTPS and no client can be made.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, OutboundError> {
        let terms = self.webhooks.as_ref().map(|webhooks| webhooks.prepare(config)).transpose()?;
        Ok(Prepared(terms.flatten()))
    }

    /// Applies a reloaded configuration, of which `prepared` was made.
    pub fn reload(&self, config: &Config, prepared: Prepared) {
        self.policy.reload(config);
        if let (Some(webhooks), Prepared(Some(terms))) = (&self.webhooks, prepared) {
            webhooks.apply(terms);
        }
    }
}
