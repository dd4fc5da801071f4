"""The console's place: a private bucket behind CloudFront, ready for its files. It talks to the public API alone."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_s3 as s3
from constructs import Construct

_YEAR = Duration.days(365)
_MOMENT = Duration.minutes(5)


class Console(Construct):
    """Bucket and distribution."""

    def __init__(
        self, scope: Construct, id_: str, *, prefix: str, talks_to: str, logs: s3.IBucket, removal: RemovalPolicy
    ) -> None:
        """`talks_to`: origins that its pages may call, separated by spaces."""
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "Files",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=True,
            server_access_logs_bucket=logs,
            server_access_logs_prefix="console/",
            removal_policy=removal,
        )
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment=f"{prefix}: the console",
            default_root_object="index.html",
            minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021,
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            enable_logging=True,
            log_bucket=logs,
            log_file_prefix="cloudfront/",
            price_class=cloudfront.PriceClass.PRICE_CLASS_100,
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.S3BucketOrigin.with_origin_access_control(self.bucket),
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
                response_headers_policy=self._headers(prefix, talks_to),
            ),
            error_responses=[self._page_for(status) for status in (403, 404)],
        )

    @staticmethod
    def _page_for(status: int) -> cloudfront.ErrorResponse:
        """A page of the console has an address, but no file of its own."""
        return cloudfront.ErrorResponse(
            http_status=status, response_http_status=200, response_page_path="/index.html", ttl=_MOMENT
        )

    def _headers(self, prefix: str, talks_to: str) -> cloudfront.ResponseHeadersPolicy:
        policy = (
            f"default-src 'self'; connect-src 'self' {talks_to}; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
        )
        headers = cloudfront.ResponseSecurityHeadersBehavior(
            content_security_policy=cloudfront.ResponseHeadersContentSecurityPolicy(
                content_security_policy=policy, override=True
            ),
            content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
            frame_options=cloudfront.ResponseHeadersFrameOptions(frame_option=cloudfront.HeadersFrameOption.DENY, override=True),
            referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                referrer_policy=cloudfront.HeadersReferrerPolicy.NO_REFERRER, override=True
            ),
            strict_transport_security=cloudfront.ResponseHeadersStrictTransportSecurity(
                access_control_max_age=_YEAR, include_subdomains=True, override=True
            ),
        )
        return cloudfront.ResponseHeadersPolicy(
            self, "Headers", response_headers_policy_name=f"{prefix}-console", security_headers_behavior=headers
        )
