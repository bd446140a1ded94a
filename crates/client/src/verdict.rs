//! Waiting for a command's delivery report and reply.

use std::time::Duration;

use contract::Reply;
use tokio::time::{Instant, timeout_at};

use super::{
    error::{PostError, WaitError},
    posted::Posted,
};

/// The end of a wait; none if the time-out exceeds the clock's range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Option<Instant>,
    /// The time-out.
    pub after: Duration,
}

impl Deadline {
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now().checked_add(timeout), after: timeout }
    }

    /// `None` if it is not ready in time.
    pub async fn of<F: Future>(self, future: F) -> Option<F::Output> {
        match self.at {
            Some(deadline) => timeout_at(deadline, future).await.ok(),
            None => Some(future.await),
        }
    }

    /// The reply to a command. It may also come if it is unknown whether the command was posted.
    pub async fn verdict(
        self,
        confirmed: impl Future<Output = Result<Posted, PostError>>,
        reply: impl Future<Output = Result<Result<Reply, String>, String>>,
    ) -> Result<Reply, WaitError> {
        let mut posted = Ok(None);
        let replied = async {
            tokio::pin!(reply);
            // The reply can arrive before the delivery report. If both are there, both are used.
            tokio::select! {
                biased;
                confirmed = confirmed => posted = confirmed.map(Some),
                reply = &mut reply => return Some(reply),
            }
            if let Err(PostError::Invalid(_) | PostError::NotPosted(_)) = posted {
                return None;
            }
            Some(reply.await)
        };
        let replied = self.of(replied).await;
        match replied {
            Some(Some(Ok(reply))) => reply.map_err(WaitError::BadReply),
            Some(None) | None => Err(WaitError::TimedOut { posted: posted?, after: self.after }),
            Some(Some(Err(reason))) => Err(WaitError::RepliesLost { posted: posted?, reason }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    type Heard = Result<Result<Reply, String>, String>;

    fn unconfirmed() -> Result<Posted, PostError> {
        Err(PostError::Unconfirmed("no answer".into()))
    }

    fn accepted() -> Reply {
        Reply::Accepted { id: "01a20ada-2c7b-89d1-8003-000000003039".parse().unwrap() }
    }

    async fn verdict(
        confirmed: impl Future<Output = Result<Posted, PostError>>,
        reply: impl Future<Output = Heard>,
    ) -> Result<Reply, WaitError> {
        Deadline::after(Duration::ZERO).verdict(confirmed, reply).await
    }

    #[tokio::test]
    async fn the_reply_is_waited_for_though_nobody_knows_whether_the_command_was_posted() {
        assert_eq!(verdict(ready(unconfirmed()), ready(Ok(Ok(accepted())))).await, Ok(accepted()));
        let unknown = Err(WaitError::Post(PostError::Unconfirmed("no answer".into())));
        assert_eq!(verdict(ready(unconfirmed()), pending()).await, unknown);
        assert_eq!(verdict(ready(unconfirmed()), ready(Err("gone".into()))).await, unknown);
    }

    #[tokio::test]
    async fn nothing_is_waited_for_where_the_command_was_not_posted() {
        let error = PostError::NotPosted("too large".into());
        let waited = Deadline::after(Duration::MAX).verdict(ready(Err(error.clone())), pending()).await;
        assert_eq!(waited, Err(WaitError::Post(error)));
    }

    #[tokio::test]
    async fn a_missing_reply_names_the_commands_place_if_it_is_known() {
        let posted = Posted::SomewhereIn { partition: 3 };
        for _ in 0..32 {
            let lost = verdict(ready(Ok(posted)), ready(Err("gone".into()))).await;
            assert_eq!(lost, Err(WaitError::RepliesLost { posted: Some(posted), reason: "gone".into() }));
        }
        let lost = verdict(pending(), ready(Err("gone".into()))).await;
        assert_eq!(lost, Err(WaitError::RepliesLost { posted: None, reason: "gone".into() }));
        let late = |posted| Err(WaitError::TimedOut { posted, after: Duration::ZERO });
        assert_eq!(verdict(ready(Ok(posted)), pending()).await, late(Some(posted)));
        assert_eq!(verdict(pending(), pending()).await, late(None));
    }
}
