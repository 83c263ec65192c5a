//! Groups of many members: what the driver does after each event does not look at all of them.

use super::*;

/// A group as its driver sees it: after each event it asks when to come back.
struct Crowd {
    machine: Machine,
    now: Moment,
    next: u64,
}

impl Crowd {
    fn event(&mut self, event: impl FnOnce(Ticket) -> Event) {
        self.next += 1;
        drop(self.machine.step(self.now, event(Ticket(self.next))));
        let _ = self.machine.next_deadline();
    }

    fn pass(&mut self, milliseconds: u64) {
        let end = Moment(self.now.0 + milliseconds);
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            self.event(|_| Event::Tick);
        }
        self.now = end;
    }

    fn join_all(&mut self, ids: &[String]) {
        for id in ids {
            self.event(|ticket| Event::Join { ticket, request: join(id, &[]), fresh_member_id: String::new() });
        }
    }

    fn sync_all(&mut self, ids: &[String]) {
        let (leader, generation) = (self.machine.leader.clone(), self.machine.generation());
        let (leading, following): (Vec<_>, Vec<_>) = ids.iter().partition(|id| leader.as_ref() == Some(*id));
        for id in following.into_iter().chain(leading) {
            let assigned = if leader.as_ref() == Some(id) { ids } else { &[] };
            let request = SyncGroup {
                group_id: "g".to_owned(),
                member: identity(id),
                generation,
                protocol_type: None,
                protocol: None,
                assignments: assigned.iter().map(|id| (id.clone(), Bytes::new())).collect(),
            };
            self.event(|ticket| Event::Sync { ticket, request });
        }
        assert_eq!(self.machine.state(), GroupState::Stable);
    }
}

/// How often all members are looked at while so many come, rebalance, send heartbeats, and go one after another.
fn looks(count: usize) -> usize {
    let settings =
        Settings { initial_rebalance_delay_ms: DELAY_MS, members_max: usize::MAX, record_bytes_max: 1 << 30 };
    let mut crowd = Crowd { machine: Machine::new("g".to_owned(), settings), now: Moment(1_000), next: 0 };
    let ids: Vec<String> = (0..count).map(|member| format!("client-{member:05}")).collect();
    for id in &ids {
        let request = JoinGroup { requires_known_member_id: true, ..join("", &[]) };
        crowd.event(|ticket| Event::Join { ticket, request, fresh_member_id: id.clone() });
    }
    crowd.join_all(&ids);
    crowd.pass(u64::from(DELAY_MS.unsigned_abs()) * 2);
    crowd.sync_all(&ids);
    crowd.join_all(&ids);
    crowd.sync_all(&ids);
    let generation = crowd.machine.generation();
    for id in &ids {
        crowd.machine.heartbeat(crowd.now, &identity(id), generation).expect("it is a member");
        crowd.pass(3);
    }
    crowd.pass(u64::from(REBALANCE_MS.unsigned_abs()) * 2);
    assert_eq!(crowd.machine.state(), GroupState::Empty);
    crowd.machine.next_look.looks
}

#[test]
fn sessions_are_looked_at_as_time_passes_however_many_members_there_are() {
    // They go within six seconds, at most ten looks each; the sessions before that take a few more.
    assert!(looks(2_000) <= 70, "{} looks", looks(2_000));
}
