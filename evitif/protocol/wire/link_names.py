"""The name of a robot's device on the link: `<robot>.<device>`, which its key belongs to."""


def link_name(robot: str, device: str) -> str:
    """The name of a robot's device on the link; the robot's own name if it has no devices."""
    return f'{robot}.{device}' if device else robot


def group_of(name: str, device: str) -> str:
    """The robot whose device has this name on the link."""
    return name.removesuffix(f'.{device}') if device else name


def objection_to_name(name: str, device: str) -> str:
    """Why a device cannot have this name on the link, or nothing.

    A key belongs to a name, so the name has to say which device it is: nobody takes a device's place with another robot's key.
    """
    robot = group_of(name, device)
    if not device or robot and link_name(robot, device) == name:
        return ''
    return f'device: the edge is {device}, and its name on the link is {name}; expected {link_name("<robot>", device)}'
