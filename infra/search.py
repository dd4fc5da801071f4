"""OpenSearch in a network of its own, without a way to or from the internet: whatever speaks to it comes from inside."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_opensearchservice as opensearch
from constructs import Construct

from infra.names import Names
from infra.stage import Stage

VERSION = "OpenSearch_2.19"
_INSIDE = "10.40.0.0/16"
_PORT = ec2.Port.tcp(443)


class Search(cdk.Stack):
    """Network and domain."""

    def __init__(self, scope: Construct, id_: str, stage: Stage, *, key: kms.IKey, **settings: Any) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-search", termination_protection=stage.production, **settings)
        self._stage, self._names = stage, Names(stage)
        self.network = ec2.Vpc(
            self,
            "Network",
            vpc_name=stage.prefix,
            ip_addresses=ec2.IpAddresses.cidr(_INSIDE),
            max_azs=2,
            nat_gateways=0,
            restrict_default_security_group=False,  # it would need a function of its own; nothing is in that group
            subnet_configuration=[
                ec2.SubnetConfiguration(name="private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24)
            ],
        )
        self.network.add_gateway_endpoint("Table", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        self.network.add_gateway_endpoint("Objects", service=ec2.GatewayVpcEndpointAwsService.S3)
        inside = ec2.Peer.ipv4(_INSIDE)
        self.callers = self._group("Callers", "May speak to what is inside, and to nothing else")
        self.callers.add_egress_rule(inside, _PORT, "to OpenSearch and to endpoints")
        self._domain_group = self._group("OpenSearch", "Hears what is inside, and nothing else")
        self._domain_group.add_ingress_rule(inside, _PORT, "from those who may")
        self._endpoint("Logs", ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS)
        self._endpoint("Traces", ec2.InterfaceVpcEndpointAwsService.XRAY)
        self.domain = self._domain(key)
        self.url = f"https://{self.domain.attr_domain_endpoint}"
        cdk.CfnOutput(self, "SettingAwsSearch", value=self.url)

    def _group(self, name: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(self, name, vpc=self.network, description=description, allow_all_outbound=False)

    def _endpoint(self, name: str, service: ec2.InterfaceVpcEndpointAwsService) -> None:
        group = self._group(f"{name}Group", f"Hears callers of {name.lower()}")
        group.add_ingress_rule(ec2.Peer.ipv4(_INSIDE), _PORT, "from inside")
        self.network.add_interface_endpoint(name, service=service, open=False, security_groups=[group])

    def _domain(self, key: kms.IKey) -> opensearch.CfnDomain:
        stage = self._stage
        zones = opensearch.CfnDomain.ZoneAwarenessConfigProperty(availability_zone_count=2)
        several = stage.search_count > 1
        return opensearch.CfnDomain(
            self,
            "Domain",
            domain_name=self._names.search,
            engine_version=VERSION,
            cluster_config=opensearch.CfnDomain.ClusterConfigProperty(
                instance_type=stage.search_instance,
                instance_count=stage.search_count,
                zone_awareness_enabled=several,
                zone_awareness_config=zones if several else None,
                dedicated_master_enabled=stage.production,
                dedicated_master_count=3 if stage.production else None,
                dedicated_master_type="m7g.medium.search" if stage.production else None,
            ),
            ebs_options=opensearch.CfnDomain.EBSOptionsProperty(ebs_enabled=True, volume_type="gp3", volume_size=stage.search_gb),
            encryption_at_rest_options=opensearch.CfnDomain.EncryptionAtRestOptionsProperty(enabled=True, kms_key_id=key.key_arn),
            node_to_node_encryption_options=opensearch.CfnDomain.NodeToNodeEncryptionOptionsProperty(enabled=True),
            domain_endpoint_options=opensearch.CfnDomain.DomainEndpointOptionsProperty(
                enforce_https=True, tls_security_policy="Policy-Min-TLS-1-2-PFS-2023-10"
            ),
            vpc_options=opensearch.CfnDomain.VPCOptionsProperty(
                subnet_ids=[each.subnet_id for each in self.network.isolated_subnets[: 2 if several else 1]],
                security_group_ids=[self._domain_group.security_group_id],
            ),
            access_policies=self._access(),
        )

    def _access(self) -> iam.PolicyDocument:
        """By signed requests of this account's roles; which of them, their own policies say."""
        arn = self._names.arn("es", f"domain/{self._names.search}/*")
        return iam.PolicyDocument(
            statements=[iam.PolicyStatement(actions=["es:ESHttp*"], principals=[iam.AccountRootPrincipal()], resources=[arn])]
        )
