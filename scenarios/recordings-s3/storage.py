"""Storage of the S3 protocol: moto's server, which checks signatures and rights, and a relay by which it is near or away."""

import json
import os
import select
import socket
import sys
import threading

import boto3
from botocore.exceptions import ClientError

from lib.scenario import wait_for

REGION, BUCKET = "eu-central-1", "audio-of-calls"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
# What is done before keys are looked at: bucket, user, key, policy.
FREE_ACTIONS = 4


class Storage:
    """A bucket that only the holder of `key` and `secret` may use."""

    def __init__(self, scenario, port):
        environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(FREE_ACTIONS)}
        scenario.start([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], log="moto.log", env=environment)
        wait_for(lambda: is_open(port), 10, "moto")
        at = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": REGION}
        nobody = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
        boto3.client("s3", **at, **nobody).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        iam = boto3.client("iam", **at, **nobody)
        iam.create_user(UserName="dialtone")
        made = iam.create_access_key(UserName="dialtone")["AccessKey"]
        iam.put_user_policy(UserName="dialtone", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        self.client = boto3.client("s3", **at, aws_access_key_id=self.key, aws_secret_access_key=self.secret)

    def names(self):
        """Of all objects."""
        return sorted(one["Key"] for one in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", []))

    def read(self, name):
        """An object's bytes, or `None`."""
        try:
            return self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Relay:
    """Leads from one port to another, or refuses: connections that stood are broken. So are the next ones of `to_break`, by the
    first request that comes on them."""

    def __init__(self, here, there):
        self.here, self.there, self.door, self.through, self.to_break = here, there, None, [], 0

    def open(self):
        self.door = socket.create_server(("127.0.0.1", self.here))
        threading.Thread(target=self._accept, args=[self.door], daemon=True).start()

    def close(self):
        # A shutdown wakes whoever waits in accept; a close alone would not.
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        for end in self.through:
            shut(end)
        self.through.clear()

    def _accept(self, door):
        while True:
            try:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", self.there))
            except OSError:
                return
            self.through += [near, far]
            threading.Thread(target=self._lead, args=[near, far], daemon=True).start()

    def _lead(self, near, far):
        other = {near: far, far: near}
        try:
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if self.to_break:
                        self.to_break -= 1
                        return
                    other[end].sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            shut(near), shut(far)


def shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
