"""What is said about the way there: the domain, its name servers, the network, the dialogue."""

from __future__ import annotations

from postroom.events.bounce_parser.phrases.saying import Saying
from postroom.model.event import BounceClass, BounceType

UNREACHED = Saying(  # there was no answer, or none to this mail
    BounceClass.NETWORK,
    BounceType.SOFT,
    """
    lost connection with | connection timed out while | conversation with … timed out |
    delivery temporarily suspended
    """,
)

UNRESOLVED = Saying(  # the same words where the name server, not the name, is the trouble
    BounceClass.NETWORK,
    BounceType.SOFT,
    """
    host not found, try again | host not found (try again) | name server timeout | server failure | servfail |
    dns timeout | temporary lookup failure | temporary dns | malformed or unexpected name server |
    temporary resolution | lookup timed out | name server … timed out | query timed out
    """,
)

DOMAIN = Saying(
    BounceClass.DOMAIN,
    BounceType.HARD,
    """
    host unknown | unknown host | host not found | no such host | no such domain | domain not found |
    domain does not exist | domain doesn't exist | domain … does not exist | domain … doesn't exist |
    domain … couldn't be found | domain … could not be found | domain name not found | unknown domain |
    domain unknown | domain is not found | invalid domain | domain invalid | domain isn't | domain not in use |
    domain has been disabled | domain is disabled | domain has expired | domain expired | domain suspended |
    does not exist … domain | nxdomain | nullmx | indicated no smtp service | dns lookup failure: host … not found |
    domain is not reachable | null mx | no mx | does not accept mail | doesn't accept mail | doesn't receive email |
    does not receive email | not accept any mail | no mail server | no mail hosts | no mail exchanger |
    mx lookup failed | mx record … not found | mx records … no | bad destination host | bad destination system |
    all relevant mx records point to non-existent hosts | couldn't find any host | could not find any host |
    couldn't find a mail exchanger | dns domain … does not exist | unable to find … mx | illegal host/domain |
    unrouteable mail domain | unroutable mail domain | domain … existiert nicht | domäne … nicht gefunden |
    domaine … n'existe pas | dominio … no existe | 域名不存在 | 域名无效
    """,
)

NETWORK = Saying(
    BounceClass.NETWORK,
    BounceType.SOFT,
    """
    connection timeout | connection refused | connection reset | connection lost | connection dropped |
    connection was dropped | connection closed | connection died | conversation with | timed out | timeout exceeded |
    retry timeout | retry time not reached | lost connection | lost input channel | no route to host |
    network is unreachable | network unreachable | host unreachable | host is unreachable | unable to connect |
    could not connect | couldn't connect | cannot connect | not reachable | did not accept our requests to connect |
    all hosts have been failing | all hosts … failing | multiple retries | failed … attempts |
    message will be retried | for the last | aborted after | refused to talk to me | can't connect |
    failed to connect | unable to contact | establish an smtp connection | no answer from host | not responding |
    did not respond | host … is down | host down | mail loop | routing loop | mail forwarding loop | too many loops |
    hop count exceeded | maximum hop count | loops back to myself | loop detected | too many hops | queue too long |
    time limit | has been in the queue | could not be delivered for | retry period | unable to deliver … for |
    delivery attempts | expired | service unavailable | service temporarily | temporarily unavailable |
    temporarily deferred | temporary failure | temporary local problem | temporary system problem |
    system not accepting | configuration error | internal error | local error | server error | system error |
    i/o error | write error | insufficient system | system resources | resource … unavailable | out of memory |
    can't create output | mail server is | unable to open | shutting down
    """,
)

PROTOCOL = Saying(
    BounceClass.PROTOCOL,
    BounceType.SOFT,
    """
    syntax error | command not | command unrecognized | unrecognized command | bad sequence | bad command |
    improper command | smtputf8 | 8bitmime | bare lf | bare newline | protocol error | protocol violation |
    not support
    """,
)
