/// The last report of an outage, so that each change is reported once, and not each try.
#[derive(Clone, Default)]
pub(crate) struct Said(String);

impl Said {
    pub(crate) fn is_news(&mut self, failure: &impl ToString) -> bool {
        let failure = failure.to_string();
        let news = self.0 != failure;
        self.0 = failure;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_when_it_changes() {
        let mut said = Said::default();
        let news = ["refused", "refused", "no answer", "refused"].map(|one| said.is_news(&one));
        assert_eq!(news, [true, false, true, true]);
    }
}
