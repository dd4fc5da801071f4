"""Who signs in: a Cognito pool with its hosted pages, and the clients that people and programs sign in by."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from infra.stage import Stage

ROLES = ("viewer", "editor", "sender", "admin")
"""Groups, for information only: a user's role is in the membership record, which Postroom keeps."""
_API = "postroom"


class Identity(cdk.Stack):
    """People are invited, never sign themselves up."""

    def __init__(self, scope: Construct, id_: str, stage: Stage, **settings: Any) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-identity", termination_protection=stage.production, **settings)
        self._stage = stage
        self.pool = cognito.UserPool(
            self,
            "People",
            user_pool_name=stage.prefix,
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            sign_in_case_sensitive=False,
            auto_verify=cognito.AutoVerifiedAttrs(email=True),
            password_policy=cognito.PasswordPolicy(
                min_length=12,
                require_digits=True,
                require_lowercase=True,
                require_uppercase=True,
                require_symbols=True,
                temp_password_validity=Duration.days(3),
            ),
            mfa=cognito.Mfa.OPTIONAL,
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=stage.production,
            removal_policy=stage.removal,
        )
        for role in ROLES:
            cognito.CfnUserPoolGroup(self, f"Group-{role}", user_pool_id=self.pool.user_pool_id, group_name=role)
        domain = cognito.CognitoDomainOptions(domain_prefix=f"{stage.prefix}-{cdk.Aws.ACCOUNT_ID}")
        self.pool.add_domain("SignIn", cognito_domain=domain)
        self.clients = [self._console(), self._command_line(), self._programs()]
        cdk.CfnOutput(self, "SettingAwsUserPool", value=self.pool.user_pool_id)
        cdk.CfnOutput(self, "SettingIssuer", value=self.issuer)
        cdk.CfnOutput(self, "SettingAudience", value=self.audience)
        cdk.CfnOutput(self, "ConsoleClient", value=self.clients[0].user_pool_client_id)
        cdk.CfnOutput(self, "CommandLineClient", value=self.clients[1].user_pool_client_id)

    @property
    def issuer(self) -> str:
        """The `iss` claim of its tokens."""
        return f"https://cognito-idp.{self.region}.amazonaws.com/{self.pool.user_pool_id}"

    @property
    def audience(self) -> str:
        """Whose tokens are believed: those of our own clients."""
        return ",".join(client.user_pool_client_id for client in self.clients)

    def _console(self) -> cognito.UserPoolClient:
        """A page keeps no secret: code and PKCE."""
        return self.pool.add_client(
            "Console",
            user_pool_client_name="console",
            generate_secret=False,
            prevent_user_existence_errors=True,
            auth_flows=cognito.AuthFlow(user_srp=True),
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[cognito.OAuthScope.OPENID, cognito.OAuthScope.EMAIL],
                callback_urls=[f"{self._stage.console_origin}/signed-in"],
                logout_urls=[f"{self._stage.console_origin}/signed-out"],
            ),
            access_token_validity=Duration.minutes(15),
            refresh_token_validity=Duration.days(7),
            enable_token_revocation=True,
        )

    def _command_line(self) -> cognito.UserPoolClient:
        """For scripts and tests with AWS credentials: signs a user in by password."""
        return self.pool.add_client(
            "CommandLine",
            user_pool_client_name="command-line",
            generate_secret=False,
            prevent_user_existence_errors=True,
            auth_flows=cognito.AuthFlow(admin_user_password=True, user_srp=True),
            disable_o_auth=True,
            access_token_validity=Duration.minutes(60),
            refresh_token_validity=Duration.days(1),
        )

    def _programs(self) -> cognito.UserPoolClient:
        """A program of one's own, by client credentials."""
        scope = cognito.ResourceServerScope(scope_name="api", scope_description="Call the API")
        server = self.pool.add_resource_server("Api", identifier=_API, scopes=[scope])
        return self.pool.add_client(
            "Programs",
            user_pool_client_name="programs",
            generate_secret=True,
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(client_credentials=True), scopes=[cognito.OAuthScope.resource_server(server, scope)]
            ),
            access_token_validity=Duration.minutes(60),
        )
