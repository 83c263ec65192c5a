//! Sets and removes configuration keys. Which keys there are and what they may hold is checked by the proposer.

use std::collections::BTreeMap;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::metadata::ConfigEntry;
use crate::model::{ConfigResource, TopicState};
use crate::outcome::{AlterConfigError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigAlteration {
    pub resource: ConfigResource,
    /// Refused if the resource's configuration has another version: for what was computed from the old values.
    pub expected_version: Option<u64>,
    pub set: Vec<(String, String)>,
    pub remove: Vec<String>,
}

wire_struct!(ConfigAlteration {
    resource: ConfigResource,
    expected_version: Option<u64>,
    set: Vec<(String, String)>,
    remove: Vec<String>,
});

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    pub alterations: Vec<ConfigAlteration>,
}

wire_struct!(AlterConfigs { alterations: Vec<ConfigAlteration> });

impl AlterConfigs {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.alterations.into_iter().map(|alteration| alter(shard, alteration, effects)).collect();
        Ok(Outcome::AlterConfigs(results))
    }
}

fn alter(shard: &mut Shard, alteration: ConfigAlteration, effects: &mut Effects) -> Result<u64, AlterConfigError> {
    let current = match &alteration.resource {
        ConfigResource::Topic(topic) => {
            let topic = shard.metadata.topic(*topic).filter(|topic| topic.state != TopicState::Deleting);
            topic.ok_or(AlterConfigError::UnknownTopic)?.config_version
        }
        other => shard.metadata.configs.get(other).map_or(0, |entry| entry.version),
    };
    if alteration.expected_version.is_some_and(|expected| expected != current) {
        return Err(AlterConfigError::Conflict { current });
    }
    let revision = shard.metadata_change(effects);
    let version = current + 1;
    if let ConfigResource::Topic(topic) = alteration.resource {
        shard.metadata.change_topic(topic, revision, |topic| {
            change(&mut topic.configs, alteration.set, &alteration.remove);
            topic.config_version = version;
        });
    } else {
        let configs = &mut shard.metadata.configs;
        let slot = configs.slot(&alteration.resource).unwrap_or_else(|| {
            let resource = alteration.resource;
            configs.insert(ConfigEntry { resource, version: 0, values: BTreeMap::new() })
        });
        if let Some(entry) = configs.change(slot) {
            change(&mut entry.values, alteration.set, &alteration.remove);
            entry.version = version;
        }
    }
    Ok(version)
}

fn change(values: &mut BTreeMap<String, String>, set: Vec<(String, String)>, remove: &[String]) {
    for key in remove {
        values.remove(key);
    }
    values.extend(set);
}
