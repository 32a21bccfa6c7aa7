"""A vehicle as AWS IoT sees it, with nothing of ours in it: a certificate, a policy, and the SDK's MQTT 3.1.1 connection."""

import json
import uuid
from contextlib import contextmanager

from awscrt import mqtt
from awsiot import mqtt_connection_builder


def allowing(*statements):
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in statements
            ],
        }
    )


class Vehicle:
    """What a vehicle needs to connect: its certificate, and the policy that is attached to it."""

    def __init__(self, aws, local_aws, *allowed):
        self.local_aws = local_aws
        made = aws.iot.create_keys_and_certificate(setAsActive=True)
        self.certificate, self.private_key = made["certificatePem"], made["keyPair"]["PrivateKey"]
        self.policy = f"policy-{uuid.uuid4()}"
        aws.iot.create_policy(policyName=self.policy, policyDocument=allowing(*allowed))
        aws.iot.attach_policy(policyName=self.policy, target=made["certificateArn"])

    @contextmanager
    def connected(self, client_id="car", endpoint="localhost"):
        connection = mqtt_connection_builder.mtls_from_bytes(
            self.certificate.encode(),
            self.private_key.encode(),
            endpoint=endpoint,
            port=self.local_aws.mqtt_port,
            ca_bytes=self.local_aws.ca_path.read_bytes(),
            client_id=client_id,
            clean_session=True,
            reconnect_min_timeout_secs=1,
            reconnect_max_timeout_secs=1,
        )
        connection.connect().result(10)
        try:
            yield connection
        finally:
            connection.disconnect().result(10)

    def publish(self, topic, payload, client_id="car"):
        """Return when the message is acknowledged."""
        with self.connected(client_id) as connection:
            connection.publish(topic, payload, mqtt.QoS.AT_LEAST_ONCE)[0].result(10)
