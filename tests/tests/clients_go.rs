//! Both Go clients, through the programs in `tests/clients/franz` and `tests/clients/sarama`.

use tests::clients::Client;

#[test]
fn franz_go() -> anyhow::Result<()> {
    Client::GoFranz.check()
}

#[test]
fn sarama() -> anyhow::Result<()> {
    Client::GoSarama.check()
}
