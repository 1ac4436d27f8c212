use crate::Destination;

/// Queues by task name: Celery's `task_routes`, for the signatures that this worker sends (a callback's signature names
/// no queue).
#[derive(Debug, Clone)]
pub struct Routes {
    rules: Vec<(wildmatch::WildMatch, Destination)>,
    default_queue: String,
}

impl Routes {
    /// Routes that send everything to one queue.
    pub fn new(default_queue: impl Into<String>) -> Self {
        Self {
            rules: Vec::new(),
            default_queue: default_queue.into(),
        }
    }

    /// Adds a route behind those there are: the first one that matches wins.
    pub fn add(&mut self, glob: &str, destination: Destination) {
        self.rules
            .push((wildmatch::WildMatch::new(glob), destination));
    }

    /// The queues that tasks may be sent to by the default exchange.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        let routed = self.rules.iter().map(|(_, to)| to);
        routed
            .filter(|to| to.exchange.is_empty())
            .map(|to| to.routing_key.as_str())
            .chain([self.default_queue.as_str()])
    }

    /// The destination of tasks of this name.
    pub fn destination(&self, task: &str) -> Destination {
        self.rules
            .iter()
            .find(|(glob, _)| glob.matches(task))
            .map_or_else(
                || Destination::queue(&self.default_queue),
                |(_, to)| to.clone(),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_matches_wins() {
        let mut routes = Routes::new("celery");
        routes.add("shop.*", Destination::queue("python"));
        routes.add("shop.mail", Destination::queue("mail"));
        routes.add(
            "feeds.?",
            Destination {
                exchange: "media".into(),
                routing_key: "video".into(),
            },
        );

        assert_eq!(
            routes.destination("shop.mail"),
            Destination::queue("python")
        );
        assert_eq!(routes.destination("feeds.x").exchange, "media");
        assert_eq!(routes.destination("other"), Destination::queue("celery"));
        assert!(routes.queues().eq(["python", "mail", "celery"]));
    }
}
