"""The README's rows of docs/claims.md: up to ten that our own runs decided."""

import re
from collections.abc import Mapping

from experiments import report

BEGIN = '<!-- verdicts, made by python -m experiments.summarize -->'
END = '<!-- end of verdicts -->'
MOST = 10
# The most interesting first, in few words: docs/claims.md quotes them.
CLAIMS = {
    5: 'ReLU reaches 25 % training error several times sooner than tanh (Figure 1)',
    3: 'two towers beat one column of half the maps (§3.2)',
    7: 'local response normalisation lowers the error (§3.3)',
    12: 'without dropout the net overfits (§4.2)',
    10: 'without crops and mirrors it overfits (§4.1)',
    32: 'a wider net is better (§7)',
    26: 'one tower learns colour, the other does not (Figure 3)',
    9: 'each middle layer matters (§7; here conv4)',
    8: 'overlapping pools lower the error (§3.4)',
    18: 'ten views beat one (§4.1)',
    13: 'weight decay lowers the training error (§5)',
    27: 'near in the last layer means alike (Figure 4)',
    11: 'colour noise lowers the error (§4.1)',
    15: 'biases of 1 speed up the start (§5)',
    30: 'a trained net adapts to few images',
    33: 'sharing weights keeps it from overfitting',
    29: 'later layers know more of the class',
    6: 'ReLU reaches it several times sooner than the sigmoid',
}


def with_verdicts(readme: str, found: Mapping[int, tuple[str, str]]) -> str:
    """The README with its table as the records have it.

    Args:
      readme: its text; without the marks it stays as it is.
      found: by claim, what was found and the verdict, of the measured ones alone.
    """
    chosen = [number for number in CLAIMS if number in found][:MOST]
    table = report.markdown_table(
        ['claim', 'found here', 'verdict'],
        [[CLAIMS[number], *found[number]] for number in chosen],
    )
    body = f'{BEGIN}\n{table if chosen else "Nothing yet."}\n{END}'
    marked = re.escape(BEGIN) + '.*?' + re.escape(END)
    return re.sub(marked, lambda _: body, readme, flags=re.DOTALL)
