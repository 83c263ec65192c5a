//! Both Python clients, through the programs in `tests/clients/python`.

use tests::clients::Client;

#[test]
fn confluent_kafka() -> anyhow::Result<()> {
    Client::PythonConfluent.check()
}

#[test]
fn kafka_python() -> anyhow::Result<()> {
    Client::PythonKafka.check()
}
