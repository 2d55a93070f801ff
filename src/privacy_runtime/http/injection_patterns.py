"""The patterns of `injection`, by family, each with a weight.

They are read by RE2, without regard to case, in a text that `injection` has decoded. A weight of
`THRESHOLD` is a sign by itself; lighter ones need company. They were chosen on one half of the
regression vectors of the OWASP Core Rule Set and measured on the other (docs/validation.md).
"""

from __future__ import annotations

from typing import Final

Rows = tuple[tuple[int, str], ...]

_COMMANDS: Final = (
    r"(?:ba|c|k|z|da|tc|a)?sh|cat|tac|ls|id|whoami|uname|wget|curl|nc|ncat|netcat|telnet|"
    r"ping|nslookup|dig|host|ifconfig|ipconfig|netstat|ps|kill|rm|cp|mv|chmod|chown|touch|"
    r"echo|printf|env|printenv|export|set|eval|exec|source|alias|python[\d.]*|perl|ruby|php|"
    r"node|lua|irb|gcc|c89|c99|make|awk|gawk|sed|find|grep|xargs|head|tail|less|more|vi|vim|"
    r"ex|ed|nano|tee|dd|tar|bsdtar|zip|unzip|gzip|bzip2|xz|unxz|zstdcat|base32|base64|xxd|"
    r"od|strings|su|sudo|ssh|scp|ftp|tftp|nohup|time|timeout|sleep|watch|flock|strace|"
    r"ltrace|perf|crontab|at|systemctl|service|apt|apt-get|aptitude|yum|dnf|dpkg|rpm|pip|"
    r"npm|gem|git|mysql|psql|sqlite3|htop|top|pwd|cd|cmd|powershell|pwsh|net|net1|dir|type|"
    r"copy|del|reg|sc|wmic|iwr|iex|iwmi|mshta|certutil|rundll32|regsvr32|bitsadmin|bcdboot|"
    r"ksh|adduser|useradd|passwd|finger|mail|sendmail|open|osascript|busybox"
)
"""What is run in a shell that an attacker reached."""
_EVENTS: Final = (
    r"on(?:abort|animation\w+|auxclick|before\w+|blur|cancel|change|click|copy|cut|dblclick|"
    r"drag\w*|drop|end|error|focus\w*|hashchange|input|invalid|key\w+|load\w*|message|"
    r"mouse\w+|page\w+|paste|pointer\w+|popstate|readystatechange|repeat|reset|resize|"
    r"scroll|search|seek\w+|select|show|start|submit|toggle|touch\w+|transition\w+|unload|"
    r"wheel|begin|finish|activate)"
)
"""Attributes of HTML that hold a script."""

SQL: Final[Rows] = (
    (5, r"\bunion\b[ (]+(?:all|distinct(?:row)?)?[ (]*select\b"),
    (
        5,
        r"\bselect\b.{1,80}\bfrom\b.{0,20}\b(?:information_schema|sysobjects|mysql\.|pg_|dual|"
        r"users?\b)",
    ),
    (5, r"\(\s*select\b.{1,120}(?:\bfrom\b|\))"),
    (3, r"\bselect\b[ @*(\w,.]{1,60}\bfrom\b"),
    (
        5,
        r"['\"`)] *(?:or|and|xor|\|\||&&|having|like|rlike|"
        r"div)\b? *(?:not )?['\"`(]? *['\"\d@~!(-]",
    ),
    (5, r"['\"`] *(?:or|and|xor|\|\||&&)\b? *\(?[\w.]+\)? *(?:=|<|>|!|is\b|like\b|in\b|--|#|;)"),
    (
        5,
        r"\b(?:or|and|xor)\b *\(?(?:\d+|'[^']{0,20}'|\"[^\"]{0,20}\") *(?:=|<=?>?|>=?|!=|like|"
        r"regexp) *(?:\d|'|\")",
    ),
    (5, r"\b(?:or|and|xor)\b *(?:\d+|true|false) *(?:--|#|;|$)"),
    (5, r"['\"`] *(?:--|#|;) *(?:-|\+|$)"),
    (
        5,
        r"(?:^|;|'|\)|\d) *(?:drop|alter|truncate|create|insert +into|delete +from|update|exec|"
        r"execute|declare|shutdown|grant|handler|merge)\b *(?:[@\[]|(?:table|database|schema|"
        r"user|view|procedure|function|index|into|from)?[ \w.]{1,40}(?:\(|;|--|set\b|values|$))",
    ),
    (
        5,
        r"\b(?:sleep|benchmark|pg_sleep|extractvalue|updatexml|load_file|utl_inaddr|xmltype|"
        r"sqlite_\w+|find_in_set|group_concat|current_user|current_database)\b *(?:\(|::)",
    ),
    (
        5,
        r"\bwaitfor +(?:delay|time)\b|\b(?:xp|sp)_[a-z]\w{3,}|\bdbms_\w+\.|\binto +(?:out|"
        r"dump)file\b",
    ),
    (
        5,
        r"\b(?:substr(?:ing)?|ascii|char|chr|concat|hex|unhex|mid|if|iif|exists|length|"
        r"count)\b *\( *(?:\(? *select\b|0x|@@|\d+ *, *\d)",
    ),
    (4, r"@@\w+|\b(?:sysobjects|syscolumns|information_schema|pg_catalog|sysusers|msysaces)\b"),
    (3, r"\bcase +when\b|\bgroup +by\b.{1,60}\bhaving\b|\border +by +\d+\b|\bhaving +\d"),
    (3, r"::(?:int|text|json|jsonb|varchar|bool)\b|\b0x[0-9a-f]{6,}\b"),
    (2, r"['\"`] *(?:\+|\|\||,|\)|;)"),
    (2, r"--|#|/\*"),
)

XSS: Final[Rows] = (
    (
        5,
        r"< *[/!?]? *(?:[a-z]+:)?(?:script|iframe|frame(?:set)?|object|embed|svg|applet|meta|"
        r"link|base|form|body|html|img|image|video|audio|input|button|style|isindex|marquee|"
        r"math|textarea|noscript|template|xml|xss|vmlframe|bgsound|layer|details|select|table|"
        r"td|div|a)\b.{0,300}[=>/]",
    ),
    (5, r"< *(?:script|style|iframe)\b"),
    (5, r"(?:^|['\"` /<;>])" + _EVENTS + r" *="),
    (5, r"(?:java|vb|live|j)script *:|data *: *(?:text/(?:html|xml)|application/xhtml|image/svg)"),
    (
        5,
        r"-moz-binding|behaviou?r *: *url|expression *\(|@import *['\"]|"
        r"url *\( *['\"]?javascript",
    ),
    (
        5,
        r"document *\. *(?:cookie|domain|write|location|create|body|forms)|"
        r"window *\. *(?:location|name|open|onerror)|string *\. *fromcharcode",
    ),
    (
        5,
        r"\b(?:alert|prompt|confirm|eval|settimeout|setinterval|atob|unescape|fetch|"
        r"import) *(?:\(|`).{0,200}[)`]",
    ),
    (5, r"<! *(?:--|\[cdata|entity|doctype)|<\?xml\b|<!--#"),
    (
        5,
        r"\bnew +function *\(|\bfunction *\( *\) *\{|=> *\{|\[\] *\. *(?:sort|map|filter|"
        r"constructor)",
    ),
    (5, r"\badw-|\bself *\[|\btop *\[|\bthis *\[|__proto__|constructor *\["),
    (5, r"(?:!?!?\[\] *){3}|(?:\[ *\] *\[ *\(){1}"),
    (2, r"[<>]"),
)

PATH: Final[Rows] = (
    (5, r"(?:^|[/\\=:;,?&'\" (])\.{2,3}(?:[/\\]|$)"),
    (
        5,
        r"/etc/(?:passwd|shadow|group|hosts|sub[ug]id|\w+\.conf|master\.passwd|ssh|cron)|"
        r"/proc/(?:self|\d)|/sys/class|/dev/(?:tcp|mem|sd)|/root/|/var/(?:log|run)/",
    ),
    (
        5,
        r"\b(?:win|boot|system|php)\.ini\b|\bweb-inf\b|\.(?:htaccess|htpasswd|ssh/|docker/|aws/|"
        r"git/|env\b|bash_history)|\bid_rsa\b",
    ),
    (5, r"(?:^|['\"=;& ])(?:file|php|phar|zip|expect|gopher|dict|jar|netdoc) *:/?/"),
    (5, r"\x00|%00|%c0%ae|%c0%af|%252e|%2e%2e|\.%2e|%2e\.|0x2e|%u2215|\xef\xbc\x8f"),
    (5, r"(?:^|[ '\"=])(?:[a-z]:\\|\\\\)[\w.$-]+"),
)

COMMAND: Final[Rows] = (
    (
        5,
        r"(?:[;|&`\n\r]|\$\(|<\(|\{ *,|^ *!|&&|\|\|) *(?:[\w./]*/)?(?:"
        + _COMMANDS
        + r")(?:[ ;|&<>`)\n\r,}(./-]|$)",
    ),
    (5, r"\$\( *[\w/.]|`[^`]{2,80}`|\$\{[a-z_?/!#@]|<<< *\S|<\( *\w"),
    (
        5,
        r"(?:^|[ ;|&'\"`=(])/(?:usr/)?(?:local/)?s?bin/\S|\b(?:cmd|command)(?:\.exe|"
        r"\.com)? +/[ckq]|%(?:systemroot|comspec|windir)%",
    ),
    (
        5,
        r"\b(?:wget|curl|iwr|mshta|fetch|lynx|invoke-webrequest|invoke-expression|"
        r"invoke-command|start-process|new-object)\b +.{0,60}(?:https?:|ftp:|"
        r"[a-z0-9-]+\.[a-z]{2,})",
    ),
    (
        5,
        r"\b(?:system|passthru|shell_exec|popen|proc_open|exec|execve|spawn|"
        r"runtime\.getruntime) *\( *['\"$`]",
    ),
    (
        5,
        r"\bfor +(?:/[dflr] +)?.{0,40}%%?\w+ +in *\(|\bif +(?:/i +)?(?:not +)?(?:exist|"
        r"errorlevel|defined|\S+==)\b?|\(\) *\{",
    ),
    (
        5,
        r"(?:^|[;&|`'\" ])(?:"
        + _COMMANDS
        + r") +(?:-{1,2}\w|/(?:etc|var|tmp|proc|dev|home|root|bin)\b)",
    ),
    (
        5,
        r"/(?:\?+|\*+|\[.\])[\w?*\[\]]*(?:/|\?)|\b\w*\[[!^]?\w\]\w*/|/e[t?*]+c?/|"
        r"\{[\w/,?$'\"]*,[^ }]{1,40}\}",
    ),
    (
        5,
        r"\r\n *(?:retr|list|top|auth|quit|help|mail from|rcpt to|ehlo|helo|data|dele|user|pass|"
        r"[az]\d{3} \w+)\b",
    ),
    (
        5,
        r"\balias +(?:-\w+ +)?['\"]?\w+['\"]?=|\b\w+=\S{1,20}; *\S*\$\w|\bnc(?:at)? +-|"
        r">\s*/(?:tmp|dev)/|\| *(?:ba|z|k|c)?sh\b",
    ),
)
