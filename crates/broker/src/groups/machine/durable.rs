//! Between the machine and its durable record.

use super::member::Member;
use super::rebalance::JoinDeadline;
use super::{Machine, Moment, Settings};
use crate::groups::api::GroupState;

impl Machine {
    /// What must be durable for the group to go on elsewhere as if nothing had happened.
    pub(crate) fn record(&self) -> shard::GroupRecord {
        shard::GroupRecord {
            group_id: self.group_id.clone(),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            state: match self.state {
                GroupState::Empty | GroupState::Dead => shard::GroupState::Empty,
                GroupState::PreparingRebalance => shard::GroupState::PreparingRebalance,
                GroupState::CompletingRebalance => shard::GroupState::CompletingRebalance,
                GroupState::Stable => shard::GroupState::Stable,
            },
            leader: self.leader.clone(),
            members: self
                .members
                .iter()
                .map(|(id, member)| shard::Member {
                    id: id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    session_timeout_ms: member.session_timeout_ms,
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    protocols: member.protocols.clone(),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    /// The group as its record says it, with all timers new: nobody is punished for the time in which no coordinator
    /// could hear it.
    pub(crate) fn restore(record: &shard::GroupRecord, now: Moment, settings: Settings) -> Self {
        let mut machine = Self::new(record.group_id.clone(), settings);
        machine.durable = true;
        machine.generation = record.generation;
        machine.protocol_type.clone_from(&record.protocol_type);
        for member in &record.members {
            machine.restore_member(member, now);
        }
        if machine.members.is_empty() {
            return machine;
        }
        let leader = record.leader.clone().filter(|leader| machine.members.contains_key(leader));
        machine.leader = leader.or_else(|| machine.members.keys().next().cloned());
        machine.protocol = record.protocol.clone().or_else(|| machine.select_protocol());
        let timeout = now.after_ms(machine.rebalance_timeout_ms());
        match record.state {
            _ if machine.protocol.is_none() => machine.restore_preparing(timeout),
            shard::GroupState::Empty | shard::GroupState::PreparingRebalance => machine.restore_preparing(timeout),
            shard::GroupState::CompletingRebalance => {
                machine.state = GroupState::CompletingRebalance;
                machine.sync_deadline = Some(timeout);
                machine.syncs_missing = machine.members.len();
                machine.members.values_mut().for_each(|member| member.synced = false);
            }
            shard::GroupState::Stable => machine.state = GroupState::Stable,
        }
        machine.assert_consistent();
        machine
    }

    fn restore_preparing(&mut self, timeout: Moment) {
        self.state = GroupState::PreparingRebalance;
        self.join_deadline = Some(JoinDeadline { at: timeout, initial: None });
    }

    fn restore_member(&mut self, record: &shard::Member, now: Moment) {
        let member = Member {
            instance_id: record.instance_id.clone(),
            client_id: record.client_id.clone(),
            client_host: record.client_host.clone(),
            session_timeout_ms: record.session_timeout_ms,
            rebalance_timeout_ms: record.rebalance_timeout_ms,
            protocols: record.protocols.clone(),
            assignment: record.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            synced: true,
            deadline: now.after_ms(record.session_timeout_ms),
            new: false,
        };
        self.next_look.no_later_than(member.deadline);
        self.member_bytes += member.record_bytes(&record.id);
        self.assignment_bytes += member.assignment.len();
        self.support.add(&member.protocols);
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), record.id.clone());
        }
        let before = self.members.insert(record.id.clone(), member);
        assert!(before.is_none(), "a record names each member once");
    }
}
