"""What a board hears and says by radio: its modem and its satellite receiver, and what a recipe wants of them.

Secrets are named here, never written: the recipe says where the device finds them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from cumulet_builder.recipe.values import Part, form

Constellation = Literal["beidou", "gps", "glonass", "galileo", "qzss"]
Generation = Literal["2g", "3g", "4g", "5g"]
Uplink = Literal["ethernet", "modem"]
# What ModemManager calls them.
BAND = r"(eutran|ngran|utran)-[1-9][0-9]{0,2}|egsm|dcs|pcs|g850|any"
APN = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
PRIVATE_FILE = r"/(etc|data|run)/([A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*"


Band = Annotated[str, *form(BAND, "a band; write it as ModemManager does, like eutran-3, ngran-78 or egsm")]
Apn = Annotated[str, Field(max_length=100), *form(APN, "an access point name; write it like internet or cmnet")]
Word = Annotated[str, Field(max_length=64), *form(r"[^\s;#\\]+", "a name without blanks, ';', '#' and '\\'")]
Variable = Annotated[str, *form(r"[A-Z_][A-Z0-9_]*", "the name of an environment variable; write it like MODEM_PIN")]
SecretFile = Annotated[
    str, *form(PRIVATE_FILE, "a file on the device; name one below /etc, /data or /run, like /etc/cumulet/modem.pin")
]
Match = Annotated[
    str, *form(r'[A-Z]+(\{[^}"]+\})?=="[^"\n]+"(, *[A-Z]+(\{[^}"]+\})?=="[^"\n]+")*', "a match of udev rules")
]


class Secret(Part):
    """Where the device finds a secret. Neither the recipe nor the image holds it.

    `env` is a variable of the service cumulet-modem, which reads /etc/cumulet/modem.env; `cumulet boot` and
    `cumulet test` hand on the variable of the same name of this computer. `file` is a file that only root may read.
    """

    # Whoever writes the secret itself here must not find it in a message.
    model_config = ConfigDict(hide_input_in_errors=True, populate_by_name=True, serialize_by_alias=True)

    origin: Literal["env", "file"] = Field(alias="from", description="env: a variable; file: a file on the device")
    name: Variable | None = Field(None, description="The variable; default: CUMULET_MODEM_ and what it is")
    path: SecretFile | None = Field(None, description="The file; default: /etc/cumulet/modem. and what it is")


class Modem(Part):
    """The uplink through the board's modem. All but the secrets can be changed on the device: cumulet.modem."""

    apn: Apn | None = Field(None, description="Access point name; default: what the network gives")
    user: Word | None = Field(None, description="User name that the access point asks for")
    password: Secret | None = Field(None, description="Where the device finds the access point's password")
    pin: Secret | None = Field(None, description="Where the device finds the PIN of the SIM")
    bands: tuple[Band, ...] = Field((), description="Bands that the modem may use; default: all it knows")
    generations: tuple[Generation, ...] = Field((), description="Generations that it may use; default: all it knows")
    roaming: bool = Field(False, description="Whether it may use other operators' networks")
    ip: Literal["ipv4", "ipv6", "ipv4v6"] = Field("ipv4v6", description="Addresses to ask for")
    failover: tuple[Uplink, ...] = Field(
        ("ethernet", "modem"), description="Uplinks, the preferred one first; the next takes over when it has no link"
    )


class Gnss(Part):
    """What the satellite receiver listens to, and what the clock takes from it."""

    constellations: tuple[Constellation, ...] = Field(("beidou", "gps"), description="Systems to receive")
    pps: bool = Field(False, description="The receiver's pulse each second is wired to /dev/pps0")
    offset: float = Field(0.0, ge=0, le=2, description="Seconds by which the receiver's sentences come late")
    wait: int = Field(180, ge=10, le=3600, description="Seconds after which a boot says which systems it does not see")


class BoardModem(Part):
    """The board's modem, for the feature modem-5g."""

    kind: Literal["qcom", "eg25", "usb", "serial"] = Field(
        description="qcom: part of a Qualcomm SoC; eg25: Quectel EG25-G; usb: any on USB or PCIe; serial: AT on a tty"
    )
    match: Match | None = Field(None, description="serial: which tty, as a match of udev rules")


class BoardReceiver(Part):
    """The board's satellite receiver, for the feature gnss-beidou."""

    kind: Literal["qcom", "eg25", "serial"] = Field(
        description="qcom: in a Qualcomm SoC's modem; eg25: in the Quectel EG25-G; serial: sentences on a tty"
    )
    match: Match | None = Field(None, description="serial: which tty, as a match of udev rules")
    constellations: tuple[Constellation, ...] = Field(description="Systems that it can receive")
    untested: tuple[Constellation, ...] = Field((), description="Those of them that nobody has seen it receive yet")
