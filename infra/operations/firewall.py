"""WAF before the API, in a stack of its own: AWS's managed rules, and a rate a caller's address may not pass."""

from __future__ import annotations

from aws_cdk import aws_wafv2 as waf
from constructs import Construct

_MANAGED = ("AWSManagedRulesCommonRuleSet", "AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesAmazonIpReputationList")
_TOO_STRICT = ("SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericRFI_BODY")
"""Of the common rules: a template is HTML of more than 8 KB with links, and is checked by us, never shown by us."""
RATE = 10_000
"""Requests of one address in five minutes: an office behind one address stays below, a flood does not."""


def add_firewall(scope: Construct, prefix: str, *, stage_arn: str, rate: int = RATE) -> waf.CfnWebACL:
    """Rules, and their place before the stage of the API."""
    rules = [_managed(number, name) for number, name in enumerate(_MANAGED)]
    rules.append(_rate(len(rules), rate))
    acl = waf.CfnWebACL(
        scope,
        "Firewall",
        name=prefix,
        scope="REGIONAL",
        default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
        visibility_config=_seen("Firewall"),
        rules=rules,
    )
    waf.CfnWebACLAssociation(scope, "BeforeTheApi", resource_arn=stage_arn, web_acl_arn=acl.attr_arn)
    return acl


def _managed(priority: int, name: str) -> waf.CfnWebACL.RuleProperty:
    counted = [
        waf.CfnWebACL.RuleActionOverrideProperty(name=each, action_to_use=waf.CfnWebACL.RuleActionProperty(count={}))
        for each in _TOO_STRICT
    ]
    statement = waf.CfnWebACL.ManagedRuleGroupStatementProperty(
        vendor_name="AWS", name=name, rule_action_overrides=counted if priority == 0 else None
    )
    return waf.CfnWebACL.RuleProperty(
        name=name,
        priority=priority,
        override_action=waf.CfnWebACL.OverrideActionProperty(none={}),
        statement=waf.CfnWebACL.StatementProperty(managed_rule_group_statement=statement),
        visibility_config=_seen(name),
    )


def _rate(priority: int, most: int) -> waf.CfnWebACL.RuleProperty:
    statement = waf.CfnWebACL.RateBasedStatementProperty(limit=most, aggregate_key_type="IP")
    return waf.CfnWebACL.RuleProperty(
        name="Rate",
        priority=priority,
        action=waf.CfnWebACL.RuleActionProperty(block={"customResponse": {"responseCode": 429}}),
        statement=waf.CfnWebACL.StatementProperty(rate_based_statement=statement),
        visibility_config=_seen("Rate"),
    )


def _seen(name: str) -> waf.CfnWebACL.VisibilityConfigProperty:
    return waf.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=True
    )
