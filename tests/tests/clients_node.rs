//! Node's kafkajs, through `tests/clients/node/check.js`.

use tests::clients::Client;

#[test]
fn kafkajs() -> anyhow::Result<()> {
    Client::NodeKafkajs.check()
}
