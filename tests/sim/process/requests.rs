//! What people ask of the job: requests at any moment, each of which has to come to one end.

use millrace_core::checkpoint::CheckpointKind;
use millrace_core::control::{End, OperationId, Order, Request, Status};

use crate::world::{Message, World, note};

impl World<'_> {
    pub(super) fn request(&mut self, request: Request) {
        let state = self.process.controller.state();
        match self.process.controller.handle_request(request.clone()) {
            Ok((operation, orders)) => {
                note!(self, "{request:?} is taken as {operation:?} while {state}");
                self.process.operations.entry(operation).or_default();
                self.carry_out(orders);
            }
            Err(refused) => {
                note!(self, "{request:?} is refused: {refused}");
                self.met.count("refused");
            }
        }
    }

    /// What the controller wants.
    pub(super) fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            note!(self, "{order:?}");
            match order {
                Order::Trigger { kind, operation } => self.trigger(kind, operation),
                Order::Drain => {
                    self.process.coordinator.suspend();
                    self.tell_subtasks(&Message::Drain);
                }
                Order::Cancel => self.cancel(),
                // The restart comes when it comes.
                Order::Hurry => {}
                Order::EndSources | Order::Commit => panic!("a job with checkpoints ends with one"),
            }
        }
    }

    pub(super) fn trigger(&mut self, kind: CheckpointKind, operation: Option<OperationId>) {
        let now = self.now();
        match self.process.coordinator.trigger(kind, now) {
            Ok((id, actions)) => {
                note!(self, "{kind:?} {id} is asked for");
                self.process.controller.handle_triggered(operation, id);
                self.perform(actions);
            }
            Err(refused) => {
                note!(self, "{kind:?} is refused: {refused}");
                let orders = self.process.controller.handle_not_triggered(operation, refused);
                self.carry_out(orders);
            }
        }
    }

    /// The attempt is given up, and nothing that it prepared is committed but by the next process.
    fn cancel(&mut self) {
        if !self.process.controller.is_cancelling() {
            return;
        }
        self.attempts += 1;
        self.process.attempt = None;
        self.process.leaving = false;
        self.process.settled = false;
        self.process.cancelled = true;
        self.coordinate(|coordinator, now| coordinator.handle_failed(now));
    }

    pub(super) fn leave_cancelled(&mut self) {
        self.process.cancelled = false;
        self.process.controller.handle_ended(true);
        assert_eq!(self.process.controller.end(), End::Cancelled);
        self.check_operations();
        self.met.count("cancelled");
        self.start_process();
    }

    /// An end is an end: nothing becomes of an operation behind it.
    pub(super) fn watch_operations(&mut self) {
        let controller = &self.process.controller;
        for (id, end) in &mut self.process.operations {
            let status = &controller.operation(*id).expect("few enough to be remembered").status;
            match end {
                Some(end) => assert_eq!(end, status, "{id:?} has come to another end"),
                None if status.has_ended() => *end = Some(status.clone()),
                None => {}
            }
        }
    }

    /// The job is over: so is all that was asked of it.
    fn check_operations(&mut self) {
        self.watch_operations();
        let ends: Vec<_> = self.process.operations.values().cloned().collect();
        let end = self.process.controller.end();
        for (id, status) in self.process.operations.iter() {
            let request = &self
                .process
                .controller
                .operation(*id)
                .expect("it is remembered")
                .request;
            let completed = *status == Some(Status::Completed);
            let expect = match request {
                Request::Savepoint { .. } => self.process.written.contains(id) || !completed,
                Request::Stop { drain, .. } => !completed || end == if *drain { End::Drained } else { End::Stopped },
                Request::Cancel => completed == (end == End::Cancelled),
            };
            assert!(expect, "{request:?} is {status:?} when the job has {end:?}");
        }
        for status in ends {
            match status {
                None => panic!("nothing became of an operation"),
                Some(Status::Completed) => self.met.count("operation completed"),
                Some(_) => self.met.count("operation failed"),
            }
        }
    }

    /// The job has ended well.
    pub(super) fn end_operations(&mut self) {
        // The process waits for savepoints that are being written.
        for (id, end) in &self.process.operations {
            let controller = &mut self.process.controller;
            if end.is_none()
                && controller
                    .operation(*id)
                    .is_some_and(|operation| operation.status == Status::Writing)
            {
                self.process.written.insert(*id);
                controller.handle_written(*id, None);
            }
        }
        self.process.controller.handle_ended(true);
        self.check_operations();
        if self.process.controller.end() == End::Drained {
            self.met.count("drained");
        }
    }
}
